"""Sign a folder, and check who signed it and that nothing in it changed since; with OpenSSF model-signing.

A signature covers every file of the folder but itself, whatever the files are: manifest with its recipe,
report, attestation, card. The library verifies, and two things are checked here as well: that no file is left
out (by default the library passes over `.gitattributes` and the like, and over whatever the signature says
was passed over), and that certificates are valid today. A signature made with a key or a certificate carries
no time that anybody else vouches for, so one from before its certificate expired cannot be told from one made
after; sigstore's log is for signatures that must outlive their certificate.
Source: https://github.com/sigstore/model-transparency/issues/663

Private keys are read, never copied to a disk. A password comes from the environment or from whoever is asked,
and no message shows it.
"""

from __future__ import annotations

import base64
import io
import json
import os
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, assert_never

from exporter.artifact.files import SIGNATURE, sha256_file
from exporter.artifact.names import beside, plain_file, shown, version_control
from exporter.errors import BackendError, ExporterError, IntegrityError, RecipeError
from exporter.packages import missing
from exporter.publish.certificates import (
    chain_of,
    check_certificate,
    printable,
    read_certificates,
    signer_problem,
    subject_of,
)
from exporter.publish.keys import (
    CertificateSigner,
    fingerprint,
    key_path_for_library,
    read_private_key,
    read_public_key,
)
from exporter.publish.statements import read_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from model_signing import hashing, signing

# A line of a few hundred bytes a file; sigstore's proof of inclusion is of tens of kilobytes.
_MAX_BYTES = 4 << 20
# What a signature's verification material is called, and how people know it.
_METHODS = {"publicKey": "a key", "x509CertificateChain": "a certificate", "certificate": "sigstore"}


@dataclass(frozen=True, slots=True)
class KeySigner:
    """Sign with an elliptic-curve private key, a PEM file."""

    key: Path


@dataclass(frozen=True, slots=True)
class SigstoreSigner:
    """Sign as the identity of this process, as on a CI service, or of who logs in in a browser.

    Needs a network. The signature, with the identity, goes into a public log.
    """


@dataclass(frozen=True, slots=True)
class KeyVerifier:
    """Expect the signature of the private key that belongs to this public one, a PEM file."""

    key: Path


@dataclass(frozen=True, slots=True)
class CertificateVerifier:
    """Expect a certificate for signing code that leads to one of these roots, PEM files.

    `subject` is who it has to be for: the whole subject as it is printed, or the common name in it. None is
    anybody whom a root, or one of its authorities, issued such a certificate for.
    """

    roots: tuple[Path, ...]
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class SigstoreVerifier:
    """Expect this identity, vouched for by this OpenID Connect issuer. Needs a network."""

    identity: str
    issuer: str


Signer: TypeAlias = KeySigner | CertificateSigner | SigstoreSigner
Verifier: TypeAlias = KeyVerifier | CertificateVerifier | SigstoreVerifier


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed a folder, and the files it was signed with, sorted by path.

    `passed_over` is what the folder has beside them as somebody's working copy: version control's, licences.
    """

    by: str
    files: tuple[str, ...]
    passed_over: tuple[str, ...] = ()


def sign(folder: Path, signer: Signer, *, ask: Callable[[str], str] | None = None) -> Path:
    """Sign every file of a folder as it is now, and return the signature's path.

    An older signature is replaced.

    Args:
        folder: to be signed.
        signer: with what.
        ask: called with a prompt for the password of an encrypted key, if the environment does not have it.

    Raises:
        RecipeError: the folder does not exist; a key or certificate is missing, cannot be read, or they do
            not belong together; the certificate is not valid today; the password is wrong or unknown; the key
            lies in the folder.
        IntegrityError: the folder holds a link or special file.
        BackendMissing: model-signing is not installed.
        BackendError: sigstore cannot be reached or refuses; the disk refuses.
    """
    _need_library()
    from model_signing import signing

    folder = _resolved(folder)
    if not _hashes(folder):
        raise RecipeError(f"{folder} has no files to sign")
    if not isinstance(signer, SigstoreSigner) and signer.key.resolve().is_relative_to(folder):
        raise RecipeError(
            f"{signer.key} lies in the folder it is to sign, and would be published; keep it elsewhere"
        )
    config = signing.Config().set_hashing_config(_every_file(folder))
    path = folder / SIGNATURE
    scratch = path.with_name(f".{SIGNATURE}.{os.getpid()}")
    try:
        with _set_up(config, signer, ask), _sigstore_errors(signer):
            config.sign(folder, scratch)
        scratch.replace(path)
    except OSError as error:
        raise BackendError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)
    return path


def verify_signature(folder: Path, verifier: Verifier) -> Signed:
    """Check that the expected signer signed exactly the files a folder holds, and return who signed them.

    Raises:
        RecipeError: the folder does not exist; a key or certificate to check with is missing or cannot be
            read.
        IntegrityError: the folder is not signed, or by somebody else, or the certificate is not valid today
            or not trusted; a file changed, is missing or was added since. The files are named.
        BackendMissing: model-signing is not installed.
        BackendError: sigstore cannot be reached.
    """
    _need_library()
    folder = _resolved(folder)
    path = folder / SIGNATURE
    content = _read_signature(path)
    material = _object(content, "verificationMaterial")
    method = next((method for method in _METHODS if material.get(method)), None)
    wanted = {
        KeyVerifier: "publicKey",
        CertificateVerifier: "x509CertificateChain",
        SigstoreVerifier: "certificate",
    }[type(verifier)]
    if method != wanted:
        found = _METHODS[method] if method else "something unknown"
        raise IntegrityError(
            f"{path} was made with {found}, not with {_METHODS[wanted]}; verify it the way it was signed"
        )
    by = _signed_by(verifier, material, path)
    signed, on_disk = _signed_hashes(content, path), _hashes(folder)
    passed_over = beside(folder, on_disk.keys() - signed.keys())
    on_disk = {name: found for name, found in on_disk.items() if name not in passed_over}
    mismatch = _library_verifies(folder, path, verifier, passed_over)
    if mismatch or signed != on_disk:
        raise IntegrityError(f"{folder} is not as it was signed: {_difference(signed, on_disk) or mismatch}")
    return Signed(by, tuple(sorted(signed)), (*version_control(folder), *sorted(passed_over)))


def _need_library() -> None:
    try:
        import model_signing  # noqa: F401
    except ImportError as error:
        raise missing(error, what="signatures") from error


def _resolved(folder: Path) -> Path:
    if not folder.is_dir():
        raise RecipeError(f"{folder}: no such folder; publish one with `exporter publish ARTIFACT FOLDER`")
    return folder.resolve()


def _hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a folder but its signature, and what belongs to version control.

    Raises:
        IntegrityError: something in it is a link, no plain file, or has control characters in its name.
    """
    found = {}
    kept = {folder / name for name in version_control(folder)}
    for path in sorted(folder.rglob("*")):
        if not kept.isdisjoint((path, *path.parents)):
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path}: a link or special file; only plain files can be signed")
        if not str(path.relative_to(folder)).isprintable():
            raise IntegrityError(
                f"{folder}: {path.name!r}: a name with control characters, which no artifact has"
            )
        if path.is_file() and path != folder / SIGNATURE:
            found[path.relative_to(folder).as_posix()] = sha256_file(path)
    return found


def _every_file(folder: Path, passed_over: Collection[str] = ()) -> hashing.Config:
    from model_signing import hashing

    ignored = [folder / name for name in (SIGNATURE, *version_control(folder), *passed_over)]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


@contextmanager
def _set_up(config: signing.Config, signer: Signer, ask: Callable[[str], str] | None) -> Iterator[None]:
    """Configure the library with the signer, whose key the library can read within the context."""
    match signer:
        case KeySigner():
            private, encrypted = read_private_key(signer.key, ask)
            with key_path_for_library(signer.key, private, encrypted=encrypted) as key:
                config.use_elliptic_key_signer(private_key=key)
                yield
        case CertificateSigner():
            private, encrypted = read_private_key(signer.key, ask)
            check_certificate(signer, private)
            # The library cannot read a chain of no certificates; the signer's own once more adds nothing to
            # trust.
            chain = signer.chain or (signer.certificate,)
            with key_path_for_library(signer.key, private, encrypted=encrypted) as key:
                config.use_certificate_signer(
                    private_key=key, signing_certificate=signer.certificate, certificate_chain=chain
                )
                yield
        case SigstoreSigner():
            with _sigstore_errors(signer):
                config.use_sigstore_signer(use_ambient_credentials=True)
            yield
        case _:
            assert_never(signer)


def _read_signature(path: Path) -> dict[str, object]:
    """Return a signature as JSON, unverified."""
    if not os.path.lexists(path):
        raise IntegrityError(
            f"{path.parent} is not signed, it has no {SIGNATURE}; `exporter publish --sign-key FILE` signs"
        )
    plain_file(path.parent, path.name)
    if path.stat().st_size > _MAX_BYTES:
        raise IntegrityError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, which no signature is")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise IntegrityError(f"{path} is no signature, which is a JSON object")
    return content


def _object(content: Mapping[str, object], key: str) -> dict[str, object]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}


def _signed_by(verifier: Verifier, material: Mapping[str, object], path: Path) -> str:
    """Return the signer that a signature claims, if expected; the library verifies the claim."""
    match verifier:
        case KeyVerifier():
            ours = fingerprint(read_public_key(verifier.key))
            if (theirs := _object(material, "publicKey").get("hint")) != ours:
                found = printable(str(theirs)[:16])
                raise IntegrityError(
                    f"{path} was made with another key: {found}, {verifier.key} is {ours[:16]}"
                )
            return f"key {ours[:16]}"
        case CertificateVerifier():
            roots = [certificate for root in verifier.roots for certificate in read_certificates(root)]
            chain = chain_of(_object(material, "x509CertificateChain"), path)
            if problem := signer_problem(chain, roots, verifier.subject):
                raise IntegrityError(f"{path}: {problem}")
            return subject_of(chain[0])
        case SigstoreVerifier():
            return f"{verifier.identity} ({verifier.issuer})"
    assert_never(verifier)


def _library_verifies(folder: Path, path: Path, verifier: Verifier, passed_over: Collection[str]) -> str:
    """Verify with the library, and return its message where the signature holds but files differ, else ''."""
    from model_signing import verifying

    config = verifying.Config().set_hashing_config(_every_file(folder, passed_over))
    match verifier:
        case KeyVerifier():
            config.use_elliptic_key_verifier(public_key=verifier.key)
        case CertificateVerifier():
            config.use_certificate_verifier(certificate_chain=verifier.roots)
        case SigstoreVerifier():
            with _sigstore_errors(verifier):
                config.use_sigstore_verifier(identity=verifier.identity, oidc_issuer=verifier.issuer)
        case _:
            assert_never(verifier)
    try:
        with redirect_stdout(io.StringIO()):  # it prints warnings
            config.verify(folder, path)
    except Exception as error:  # noqa: BLE001 # whatever untrusted input makes libraries raise, it is unverified
        said = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, ValueError) and said.startswith("Signature mismatch"):
            return said
        raise IntegrityError(f"{path}: the signature is not by that signer or was changed: {said}") from None
    return ""


def _signed_hashes(content: Mapping[str, object], path: Path) -> dict[str, str]:
    """Return the files that a signature is about, and their hashes."""
    try:
        envelope = _object(content, "dsseEnvelope")
        predicate = json.loads(base64.b64decode(str(envelope["payload"])))["predicate"]
        resources = predicate["resources"]
        if {resource["algorithm"] for resource in resources} != {"sha256"} or predicate["serialization"][
            "method"
        ] != "files":
            raise IntegrityError(
                f"{path} is about parts of files, or hashes other than sha256; "
                "wanted what `exporter publish` signs"
            )
        return {str(resource["name"]): str(resource["digest"]) for resource in resources}
    except (KeyError, TypeError, ValueError, RecursionError):
        raise IntegrityError(f"{path} says not of which files it is") from None


def _difference(signed: Mapping[str, str], on_disk: Mapping[str, str]) -> str:
    parts = {
        "changed": {name for name in signed.keys() & on_disk.keys() if signed[name] != on_disk[name]},
        "missing": signed.keys() - on_disk.keys(),
        "not signed": on_disk.keys() - signed.keys(),
    }
    return "; ".join(
        f"{word}: {', '.join(map(shown, sorted(names)))}" for word, names in parts.items() if names
    )


@contextmanager
def _sigstore_errors(party: Signer | Verifier) -> Iterator[None]:
    """Raise what sigstore's client raises of its network, logs and log-ins as one line."""
    try:
        yield
    except ExporterError:
        raise
    except Exception as error:
        if not isinstance(party, SigstoreSigner | SigstoreVerifier):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackendError(
            f"sigstore cannot be used: {said}; sign and verify with a key where there is no network"
        ) from error


def check_signature(folder: Path, verifier: Verifier) -> Signed:
    """Check a published folder's signature, files and statements, and return who signed it.

    Raises:
        RecipeError: the folder is no published artifact, or the key or certificate to check with is missing.
        IntegrityError: the folder is not signed, signed by somebody else, or changed since; or its statements
            are not what its report says.
        BackendMissing: model-signing is not installed.
    """
    signed = verify_signature(folder, verifier)
    read_statements(folder)
    return signed
