"""Private and public keys, read from PEM files; a private key is never copied to a disk."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey


PASSWORD_VARIABLE = "EXPORTER_KEY_PASSWORD"  # noqa: S105 # the name of a variable, not what is in it
_MAX_KEY_BYTES = 1 << 20
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_MAKE_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"


@dataclass(frozen=True, slots=True)
class CertificateSigner:
    """Sign with a private key and the certificate of its public key.

    `chain` are the certificates between that one and a root, without the root.
    """

    key: Path
    certificate: Path
    chain: tuple[Path, ...] = ()


def read_private_key(path: Path, ask: Callable[[str], str] | None) -> tuple[EllipticCurvePrivateKey, bool]:
    """Read an elliptic-curve private key, and return the key and whether it was encrypted.

    Args:
        path: a PEM file.
        ask: called with a prompt for the password, where the environment does not have it.

    Raises:
        RecipeError: the file is no such key, or its password is wrong or unknown.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw = read_pem(path, "a private key")
    encrypted = False
    try:
        try:
            key = load_pem_private_key(raw, None)
        except TypeError:  # encrypted
            encrypted = True
            key = load_pem_private_key(raw, _password(path, ask).encode())
    except (ValueError, UnsupportedAlgorithm):
        if encrypted:
            raise RecipeError(f"{path}: wrong password") from None
        raise RecipeError(f"{path} is no private key in PEM; make one with `{_MAKE_KEY}`") from None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise RecipeError(
            f"{path}: {_kind_of(key)}; wanted one of {', '.join(_CURVES.values())}, "
            f"make it with `{_MAKE_KEY}`"
        )
    return key, encrypted


def _password(path: Path, ask: Callable[[str], str] | None) -> str:
    if password := os.environ.get(PASSWORD_VARIABLE):
        return password
    if ask is None:
        raise RecipeError(f"{path} is encrypted; set {PASSWORD_VARIABLE} to its password")
    return ask(f"password of {path}")


@contextmanager
def key_path_for_library(path: Path, key: EllipticCurvePrivateKey, *, encrypted: bool) -> Iterator[Path]:
    """Yield a path at which the library can read a key without a password; a decrypted key stays in memory.

    The library takes no password together with a certificate.
    Source: https://github.com/sigstore/model-transparency/blob/main/src/model_signing/signing.py
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if not encrypted:
        yield path
        return
    with os.fdopen(os.memfd_create("key", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        yield Path(f"/proc/self/fd/{file.fileno()}")


def read_public_key(path: Path) -> EllipticCurvePublicKey:
    """Return the elliptic-curve public key of a PEM file.

    Raises:
        RecipeError: the file cannot be read, or is no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    raw = read_pem(path, "a public key")
    try:
        key = load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        found = "a private key" if b"PRIVATE KEY" in raw else "no public key in PEM"
        raise RecipeError(
            f"{path} is {found}; get the public one with `openssl ec -in key.pem -pubout -out key.pub`"
        ) from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise RecipeError(f"{path}: {_kind_of(key)}; wanted one of {', '.join(_CURVES.values())}")
    return key


def _kind_of(key: object) -> str:
    curve = getattr(getattr(key, "curve", None), "name", None)
    return (
        f"a key of the curve {curve}"
        if curve
        else f"a key of another kind ({type(key).__name__.lstrip('_')})"
    )


def read_pem(path: Path, what: str) -> bytes:
    """Return the bytes of a PEM file.

    Args:
        path: the file.
        what: wanted in it, for errors.

    Raises:
        RecipeError: the file cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > _MAX_KEY_BYTES:
            raise RecipeError(f"{path}: larger than {_MAX_KEY_BYTES >> 20} MiB, which {what} is not")
        return path.read_bytes()
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; wanted {what} in PEM") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}; wanted {what} in PEM") from None


def fingerprint(key: EllipticCurvePublicKey) -> str:
    """Return the hash by which the library notes a public key in a signature."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
