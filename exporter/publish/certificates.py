"""Certificates of who signs: read, and held against what a certificate has to say before it may vouch.

Issued for signing code (`extendedKeyUsage=codeSigning`), which a web server's or a person's mail certificate
of the same authority is not; and by authorities that say they are some. OpenSSL checks the signatures, the
dates and the names on the way to a root; what it lets pass without a purpose is checked here. A list of
revoked certificates is not asked for: neither does OpenSSL without being told one, nor model-signing.
Source: https://docs.openssl.org/master/man1/openssl-verification-options/#certificate-extensions
Source: https://github.com/sigstore/model-transparency/blob/main/src/model_signing/_signing/sign_certificate.py
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exporter.errors import IntegrityError, RecipeError
from exporter.publish.keys import CertificateSigner, read_pem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeVar

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, ExtensionType

    _E = TypeVar("_E", bound=ExtensionType)

# Authorities of companies have two or three certificates between a signer's and their root.
MAX_CHAIN = 10
# What forged certificates can be had for, or soon.
# Source: https://csrc.nist.gov/pubs/sp/800/131/a/r2/final
_WEAK_HASHES = frozenset(("md5", "sha1"))
_MIN_RSA_BITS = 2048
_MAKE = "extendedKeyUsage=codeSigning, keyUsage=digitalSignature and basicConstraints=CA:FALSE"


def check_certificate(signer: CertificateSigner, key: EllipticCurvePrivateKey) -> None:
    """Raise unless a certificate can sign today, with this key; the library would fail only on verifying.

    Raises:
        RecipeError: a certificate is not valid today, does not belong to the key, or is not for signing.
    """
    for path in (signer.certificate, *signer.chain):
        for certificate in read_certificates(path):
            if problem := expiry_problem(certificate):
                raise RecipeError(f"{path}: {problem}; ask who issued it for a new one")
    certificate = read_certificates(signer.certificate)[0]
    if certificate.public_key() != key.public_key():
        raise RecipeError(f"{signer.certificate} is not the certificate of {signer.key}")
    if problem := use_problem(certificate):
        raise RecipeError(f"{signer.certificate}: {problem}; ask who issued it for one with {_MAKE}")


def read_certificates(path: Path) -> list[Certificate]:
    """Return the certificates of a PEM file.

    Raises:
        RecipeError: the file cannot be read, or holds no certificate.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(read_pem(path, "a certificate"))
    except ValueError:
        raise RecipeError(f"{path} is no certificate in PEM") from None


def chain_of(material: Mapping[str, object], path: Path) -> list[Certificate]:
    """Return the signing certificate of a signature, then those that came with it.

    Args:
        material: what the signature has under `x509CertificateChain`.
        path: of the signature, for errors.

    Raises:
        IntegrityError: there is none, one cannot be read, or there are too many.
    """
    from cryptography import x509

    listed = material.get("certificates")
    try:
        each_of = listed if isinstance(listed, list) else []
        if len(each_of) > MAX_CHAIN:
            raise IntegrityError(f"{path} holds {len(each_of)} certificates, {MAX_CHAIN} expected at most")
        chain = [x509.load_der_x509_certificate(base64.b64decode(each["rawBytes"])) for each in each_of]
    except (TypeError, KeyError, ValueError):
        chain = []
    if not chain:
        raise IntegrityError(f"{path} holds no certificates that can be read")
    return chain


def signer_problem(chain: Sequence[Certificate], roots: Sequence[Certificate], subject: str | None) -> str:
    """Return why whoever a certificate names may not vouch today; empty where he or she may.

    Args:
        chain: the signing certificate, then those that came with it.
        roots: the authorities that are trusted.
        subject: who it has to name, see `is_named`; None is anybody whom the roots have issued one for.
    """
    if problem := next(filter(None, (*map(expiry_problem, chain), use_problem(chain[0]))), ""):
        return problem
    if problem := trust_problem(chain, roots):
        return f"{problem}; trusted are {', '.join(map(subject_of, roots)) or 'none'}"
    if subject is not None and not is_named(chain[0], subject):
        return f"signed by {subject_of(chain[0])}, not by {subject}"
    return ""


def expiry_problem(certificate: Certificate) -> str:
    """Return why a certificate is not valid now; empty when it is valid."""
    now, subject = datetime.now(UTC), subject_of(certificate)
    if now > certificate.not_valid_after_utc:
        return f"the certificate of {subject} expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if now < certificate.not_valid_before_utc:
        return f"the certificate of {subject} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
    return ""


def use_problem(certificate: Certificate) -> str:
    """Return why a certificate is none to sign models with; empty when it is one."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        uses = _extension(certificate, x509.ExtendedKeyUsage)
        key_uses = _extension(certificate, x509.KeyUsage)
        is_authority = _is_authority(certificate)
    except ValueError:
        return f"the certificate of {subject_of(certificate)} has extensions that cannot be read"
    if uses is None or ExtendedKeyUsageOID.CODE_SIGNING not in uses:
        names = ", ".join(_use(use) for use in uses or ()) or "no use that it names"
        return f"the certificate of {subject_of(certificate)} is not for signing code, but for {names}"
    if key_uses is None or not key_uses.digital_signature:
        return f"the key in the certificate of {subject_of(certificate)} is not for signing"
    if is_authority:
        return f"the certificate of {subject_of(certificate)} is an authority's, which signs certificates"
    return ""


def trust_problem(chain: Sequence[Certificate], roots: Sequence[Certificate]) -> str:
    """Return why certificates, the signing one first, do not lead to a root today; empty when they do."""
    from OpenSSL import crypto

    store = crypto.X509Store()
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))
    leaf, *between = (crypto.X509.from_cryptography(certificate) for certificate in chain)
    try:
        way = crypto.X509StoreContext(store, leaf, between).get_verified_chain()
    except crypto.X509StoreContextError as error:
        return f"the certificate of {subject_of(error.certificate.to_cryptography())} is not trusted: {error}"
    above = [certificate.to_cryptography() for certificate in way[1:]]
    weak = (_weakness(certificate) for certificate in (chain[0], *above[:-1]))
    return next(filter(None, (*map(_authority_problem, above), *weak)), "")


def is_named(certificate: Certificate, name: str) -> bool:
    """Return whether a certificate is for somebody.

    Args:
        certificate: the signer's.
        name: the whole subject, as `subject_of` writes it, or the common name in it.
    """
    from cryptography.x509.oid import NameOID

    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return name == subject_of(certificate) or [printable(str(one.value)) for one in common] == [name]


def subject_of(certificate: Certificate) -> str:
    """Return the name of whom a certificate is for, as RFC 4514 writes it, to be printed.

    Whoever was issued a certificate may have chosen the name.
    """
    try:
        return printable(certificate.subject.rfc4514_string())
    except ValueError:
        return "an unreadable name"


def printable(text: str) -> str:
    """Return a text with escapes for what moves a cursor or turns the direction of a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _authority_problem(certificate: Certificate) -> str:
    """Return why a certificate cannot have issued one for signing code; empty when it can.

    OpenSSL takes one without basic constraints for an authority if its key may sign certificates, and asks
    for no purpose.
    Source: https://docs.openssl.org/master/man3/X509_check_ca/
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    subject = subject_of(certificate)
    try:
        if not _is_authority(certificate):
            return f"the certificate of {subject} is no authority's (CA:TRUE), and issues none"
        uses = _extension(certificate, x509.ExtendedKeyUsage)
    except ValueError:
        return f"the certificate of {subject} has extensions that cannot be read"
    allowed = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if uses is not None and allowed.isdisjoint(uses):
        return f"the authority {subject} issues no certificates for signing code"
    return ""


def _weakness(certificate: Certificate) -> str:
    """Return why a certificate that is not trusted by itself may be forged; empty when it may not."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    subject = subject_of(certificate)
    try:
        used, key = certificate.signature_hash_algorithm, certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return f"the certificate of {subject} is signed in a way that is not known"
    if used is not None and used.name in _WEAK_HASHES:
        return f"the certificate of {subject} is signed with {used.name}, which can be forged"
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        return f"the key of {subject} has {key.key_size} bits, {_MIN_RSA_BITS} expected at least"
    return ""


def _is_authority(certificate: Certificate) -> bool:
    from cryptography import x509

    found = _extension(certificate, x509.BasicConstraints)
    return found is not None and found.ca


def _extension(certificate: Certificate, cls: type[_E]) -> _E | None:
    """Return an extension; None if there is none.

    Raises:
        ValueError: it cannot be read, or stands there twice.
    """
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(cls).value
    except x509.ExtensionNotFound:
        return None
    except x509.DuplicateExtension as error:
        raise ValueError from error


def _use(use: Any) -> str:
    """Return a use by its name, as far as it has one."""
    name = getattr(use, "_name", "")
    return str(name) if name and name != "Unknown OID" else str(use.dotted_string)
