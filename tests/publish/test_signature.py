"""Signing: who signed is who was expected, every file counts, and each problem is one line."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from exporter.artifact.files import ATTESTATION, SIGNATURE
from exporter.errors import BackendError, ExporterError, IntegrityError, RecipeError
from exporter.publish.attest import write_statements
from exporter.publish.keys import PASSWORD_VARIABLE, CertificateSigner
from exporter.publish.signature import (
    CertificateVerifier,
    KeySigner,
    KeyVerifier,
    Signed,
    SigstoreSigner,
    SigstoreVerifier,
    sign,
    verify_signature,
)
from exporter.report.machines import report_path
from tests.factories import FILES, a_machine, a_report, an_artifact, write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.publish.signature import Signer, Verifier

PASSWORD = "correct horse"
DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Party:
    """A key pair, the certificate somebody issued for it, and their files."""

    private: ec.EllipticCurvePrivateKey
    key: Path
    public: Path
    certificate: x509.Certificate
    pem: Path
    issuer: Party | None


def private_pem(key: object, password: str | None = None) -> bytes:
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def public_pem(key: object) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def a_certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Party | None,
    *,
    days: tuple[int, int],
    signs: bool = True,
    uses: Sequence[x509.ObjectIdentifier] | None = None,
    is_authority: bool | None = None,
    key_cert_sign: bool | None = None,
) -> x509.Certificate:
    """Issue a certificate that is valid between so many days from now; without an issuer it is a root.

    A name that ends with CA is an authority's; others' are for signing code, unless `uses` says otherwise.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    is_authority = name.endswith(" CA") if is_authority is None else is_authority
    uses = ([] if is_authority else [ExtendedKeyUsageOID.CODE_SIGNING]) if uses is None else uses
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
    )
    if key_cert_sign is None:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=is_authority, path_length=None), critical=True
        )
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if signs:
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        usage |= {
            "digital_signature": True,
            "key_cert_sign": is_authority or bool(key_cert_sign),
            "crl_sign": False,
        }
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    return builder.sign(issuer.private if issuer else key, hashes.SHA256())


def a_party(
    folder: Path,
    name: str,
    issuer: Party | None = None,
    *,
    days: tuple[int, int] = (-10, 10),
    key: ec.EllipticCurvePrivateKey | None = None,
    **more: object,
) -> Party:
    """Make a key pair and a certificate, as files; `more` is as in `a_certificate`."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    certificate = a_certificate(name, key, issuer, days=days, **more)
    stem = re.sub(r"\W", "-", name)
    contents = {
        "key": private_pem(key),
        "pub": public_pem(key),
        "pem": certificate.public_bytes(Encoding.PEM),
    }
    for suffix, content in contents.items():
        (folder / f"{stem}.{suffix}").write_bytes(content)
    return Party(
        key, folder / f"{stem}.key", folder / f"{stem}.pub", certificate, folder / f"{stem}.pem", issuer
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for keys and certificates."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def root(keys: Path) -> Party:
    return a_party(keys, "Root CA", days=(-100, 100))


@pytest.fixture(scope="module")
def signer(keys: Path, root: Party) -> Party:
    return a_party(keys, "Signer", root)


@pytest.fixture(scope="module")
def stranger(keys: Path) -> Party:
    return a_party(keys, "Stranger CA")


@pytest.fixture(params=["key", "certificate"])
def ways(request: pytest.FixtureRequest, signer: Party) -> tuple[Callable[[Path], Signer], Verifier]:
    """How a key, given as a file, signs, and what verifies that; once by key and once by certificate."""
    if request.param == "key":
        return KeySigner, KeyVerifier(signer.public)
    return lambda key: CertificateSigner(key, signer.pem), CertificateVerifier((signer.issuer.pem,))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder of dummy files: manifest, report and attestation are real."""
    folder = tmp_path_factory.mktemp("published")
    manifest = an_artifact(folder)
    report = a_report(manifest_root=manifest.root)
    write_report(report, folder)
    write_statements(folder, manifest, (report,))
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed at will."""
    return Path(shutil.copytree(published, tmp_path / "published"))


def payload_changed(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change what the signature says, but not the signature."""
    content = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    payload = json.loads(base64.b64decode(content["dsseEnvelope"]["payload"]))
    change(payload)
    content["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    (folder / SIGNATURE).write_text(json.dumps(content), encoding="utf-8")


def test_signed_with_a_key(folder: Path, signer: Party) -> None:
    """A folder signed with a private key verifies with the public one, wherever it was moved."""
    assert sign(folder, KeySigner(signer.key)) == folder / "model.sig"
    moved = folder.rename(folder.with_name("elsewhere"))
    found = verify_signature(moved, KeyVerifier(signer.public))
    assert set(found.files) == {
        *FILES,
        *("manifest.json", "plans.json", "report.json", "report.md", "report.html", "report.xml"),
        *(ATTESTATION, report_path(a_machine())),
    }
    assert found.by.startswith("key ")


def test_signed_with_a_certificate(folder: Path, signer: Party, root: Party) -> None:
    """A certificate that leads to a trusted root verifies, and its holder is named."""
    sign(folder, CertificateSigner(signer.key, signer.pem))
    assert verify_signature(folder, CertificateVerifier((root.pem,))).by == "CN=Signer"


def test_signed_through_an_intermediate(folder: Path, keys: Path, root: Party) -> None:
    """Certificates between the signer's and the root travel in the signature."""
    middle = a_party(keys, "Middle CA", root)
    last = a_party(keys, "Last", middle)
    sign(folder, CertificateSigner(last.key, last.pem, (middle.pem,)))
    assert verify_signature(folder, CertificateVerifier((root.pem,))).by == "CN=Last"
    sign(folder, CertificateSigner(last.key, last.pem))
    with pytest.raises(
        IntegrityError,
        match="CN=Last is not trusted: unable to get local issuer certificate; trusted are CN=Root",
    ):
        verify_signature(folder, CertificateVerifier((root.pem,)))


def test_signing_again_replaces_the_signature(folder: Path, signer: Party, stranger: Party) -> None:
    """A folder has one signature, the last, and no scratch file stays."""
    sign(folder, KeySigner(stranger.key))
    sign(folder, KeySigner(signer.key))
    assert verify_signature(folder, KeyVerifier(signer.public)).files
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_librarys_own_command_agrees(folder: Path, signer: Party) -> None:
    """What is signed here verifies with `model_signing`, and the other way round."""
    run = [sys.executable, "-m", "model_signing"]
    sign(folder, KeySigner(signer.key))
    verify = [*run, "verify", "key", folder, "--signature", folder / SIGNATURE, "--public_key", signer.public]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    (folder / SIGNATURE).unlink()
    signing = [*run, "sign", "key", folder, "--signature", folder / SIGNATURE, "--private_key", signer.key]
    assert subprocess.run(signing, capture_output=True, check=False).returncode == 0
    assert isinstance(verify_signature(folder, KeyVerifier(signer.public)), Signed)


def _flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return change


def _other_recipe(folder: Path) -> None:
    """Lower a bar in the recipe and seal the manifest anew, as `exporter` itself would."""
    import dataclasses

    from exporter.artifact.manifest import read_manifest, write_manifest

    manifest = read_manifest(folder)
    write_manifest(dataclasses.replace(manifest, recipe=manifest.recipe.replace("0.5", "0.1")), folder)


def _added(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("new", encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (_flip("onnx/model.onnx"), "changed: onnx/model.onnx"),
        (_flip("tokenizer.json"), "changed: tokenizer.json"),
        (_flip("manifest.json"), "changed: manifest.json"),
        (_other_recipe, "changed: manifest.json"),
        (_flip("report.json"), "changed: report.json"),
        (_flip("report.html"), "changed: report.html"),
        (_flip(ATTESTATION), f"changed: {ATTESTATION}"),
        (lambda folder: (folder / "report.md").unlink(), "missing: report.md"),
        (
            lambda folder: (folder / "report.md").rename(folder / "x.md"),
            "missing: report.md; not signed: x.md",
        ),
        (_added("modeling.py"), "not signed: modeling.py"),
        (_added("onnx/model.onnx_data"), "not signed: onnx/model.onnx_data"),
        (_added("onnx/model.sig"), "not signed: onnx/model.sig"),
        (lambda folder: (folder / "link").symlink_to("config.json"), "link: a link or special file"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: a link or special file"),
        (_added("a\nb"), r"'a\\nb': a name with control characters"),
    ],
)
def test_tampering_is_named(
    folder: Path,
    signer: Party,
    ways: tuple[Callable[[Path], Signer], Verifier],
    tamper: Callable[[Path], None],
    said: str,
) -> None:
    """Whatever is changed, taken away or put in after signing is refused in one line with its name."""
    signs, verifier = ways
    sign(folder, signs(signer.key))
    tamper(folder)
    with pytest.raises(IntegrityError, match=said) as caught:
        verify_signature(folder, verifier)
    assert "\n" not in str(caught.value)


def _other_hash(payload: dict[str, object]) -> None:
    payload["predicate"]["resources"][0]["digest"] = "0" * 64


def _forgets(payload: dict[str, object]) -> None:
    del payload["predicate"]["resources"][0]


def _ignores(payload: dict[str, object]) -> None:
    payload["predicate"]["serialization"]["ignore_paths"].append("config.json")


@pytest.mark.parametrize("change", [_other_hash, _forgets, _ignores])
def test_changed_signature(folder: Path, signer: Party, change: Callable[[dict[str, object]], None]) -> None:
    """A signature whose content was changed does not hold, whatever the files are."""
    sign(folder, KeySigner(signer.key))
    payload_changed(folder, change)
    with pytest.raises(IntegrityError, match="model.sig: the signature is not by that signer or was changed"):
        verify_signature(folder, KeyVerifier(signer.public))


def test_what_a_signer_left_out_is_not_signed(folder: Path, signer: Party) -> None:
    """A valid signature that passes over a file is refused: every file counts here."""
    from model_signing import hashing, signing

    config = hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE, folder / "config.json"])
    signing.Config().set_hashing_config(config).use_elliptic_key_signer(private_key=signer.key).sign(
        folder, folder / SIGNATURE
    )
    with pytest.raises(IntegrityError, match="not signed: config.json"):
        verify_signature(folder, KeyVerifier(signer.public))


def test_parts_of_files_are_not_accepted(folder: Path, signer: Party) -> None:
    """A signature over shards of files cannot be held against whole files."""
    from model_signing import hashing, signing

    config = hashing.Config().use_shard_serialization()
    signing.Config().set_hashing_config(config).use_elliptic_key_signer(private_key=signer.key).sign(
        folder, folder / SIGNATURE
    )
    with pytest.raises(IntegrityError, match="model.sig"):
        verify_signature(folder, KeyVerifier(signer.public))


def test_unsigned(folder: Path, signer: Party) -> None:
    """A folder without a signature is refused, and the command that makes one named."""
    with pytest.raises(
        IntegrityError, match="published is not signed, it has no model.sig; `exporter publish --sign-key"
    ):
        verify_signature(folder, KeyVerifier(signer.public))


def test_no_folder(tmp_path: Path, signer: Party) -> None:
    """A folder that is not there is a typing mistake."""
    for act in (
        lambda: sign(tmp_path / "x", KeySigner(signer.key)),
        lambda: verify_signature(tmp_path / "x", KeyVerifier(signer.public)),
    ):
        with pytest.raises(RecipeError, match="no such folder"):
            act()


def test_key_in_the_folder(folder: Path, signer: Party) -> None:
    """A private key is not published along."""
    (folder / "key.pem").write_bytes(private_pem(signer.private))
    with pytest.raises(RecipeError, match="key.pem lies in the folder it is to sign, and would be published"):
        sign(folder, KeySigner(folder / "key.pem"))


def test_empty_folder(tmp_path: Path, signer: Party) -> None:
    """There is nothing to vouch for."""
    with pytest.raises(RecipeError, match="has no files"):
        sign(tmp_path, KeySigner(signer.key))


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"{}", b'{"verificationMaterial": 1}', b"[" * 100_000, b" " * (5 << 20)]
)
def test_signature_that_is_none(folder: Path, signer: Party, raw: bytes) -> None:
    """Whatever bytes stand in model.sig, they end in one line."""
    (folder / SIGNATURE).write_bytes(raw)
    with pytest.raises(IntegrityError, match="model.sig"):
        verify_signature(folder, KeyVerifier(signer.public))


@pytest.mark.parametrize(
    "break_it",
    [
        lambda content: content["dsseEnvelope"].update(payload="!"),
        lambda content: content["dsseEnvelope"].update(signatures=[]),
        lambda content: content.pop("dsseEnvelope"),
        lambda content: content.update(mediaType="x"),
        lambda content: content["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
    ],
)
def test_signature_that_is_broken(
    folder: Path, signer: Party, break_it: Callable[[dict[str, object]], None]
) -> None:
    """A bundle with a part missing or made up is no signature."""
    sign(folder, KeySigner(signer.key))
    content = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    break_it(content)
    (folder / SIGNATURE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(IntegrityError, match="model.sig") as caught:
        verify_signature(folder, KeyVerifier(signer.public))
    assert "\n" not in str(caught.value)


def test_another_key(folder: Path, signer: Party, stranger: Party) -> None:
    """A folder signed with another key is refused, and both keys are told apart."""
    sign(folder, KeySigner(stranger.key))
    with pytest.raises(
        IntegrityError, match="was made with another key: [0-9a-f]{16}, .*Signer.pub is [0-9a-f]{16}"
    ):
        verify_signature(folder, KeyVerifier(signer.public))


def test_another_key_that_claims_to_be_ours(folder: Path, signer: Party, stranger: Party) -> None:
    """The note on the key in a signature is no proof."""
    sign(folder, KeySigner(signer.key))
    hint = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))["verificationMaterial"]
    sign(folder, KeySigner(stranger.key))
    content = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    (folder / SIGNATURE).write_text(json.dumps({**content, "verificationMaterial": hint}), encoding="utf-8")
    with pytest.raises(IntegrityError, match="the signature is not by that signer"):
        verify_signature(folder, KeyVerifier(signer.public))


def test_another_authority(folder: Path, signer: Party, stranger: Party) -> None:
    """A certificate that leads to no root of ours is refused."""
    sign(folder, CertificateSigner(signer.key, signer.pem))
    with pytest.raises(IntegrityError, match="CN=Signer is not trusted: .*; trusted are CN=Stranger CA"):
        verify_signature(folder, CertificateVerifier((stranger.pem,)))


def test_another_way(folder: Path, signer: Party, root: Party) -> None:
    """A signature is verified the way it was made."""
    sign(folder, KeySigner(signer.key))
    with pytest.raises(IntegrityError, match="was made with a key, not with a certificate"):
        verify_signature(folder, CertificateVerifier((root.pem,)))
    with pytest.raises(IntegrityError, match="was made with a key, not with sigstore"):
        verify_signature(folder, SigstoreVerifier("me@example.org", "https://accounts.example.org"))
    sign(folder, CertificateSigner(signer.key, signer.pem))
    with pytest.raises(IntegrityError, match="was made with a certificate, not with a key"):
        verify_signature(folder, KeyVerifier(signer.public))


@pytest.mark.parametrize(("days", "said"), [((-5, -1), "expired on"), ((1, 5), "is not valid before")])
def test_certificate_out_of_its_time(
    folder: Path, keys: Path, signer: Party, days: tuple[int, int], said: str
) -> None:
    """A certificate that is not valid today neither signs nor verifies, though the library would let it."""
    late = a_certificate("Late", signer.private, signer.issuer, days=days)
    path = keys / "late.pem"
    path.write_bytes(late.public_bytes(Encoding.PEM))
    with pytest.raises(RecipeError, match=f"late.pem: the certificate of CN=Late {said}"):
        sign(folder, CertificateSigner(signer.key, path))
    sign(folder, CertificateSigner(signer.key, signer.pem))
    content = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    der = base64.b64encode(late.public_bytes(Encoding.DER)).decode()
    content["verificationMaterial"]["x509CertificateChain"]["certificates"] = [{"rawBytes": der}]
    (folder / SIGNATURE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(IntegrityError, match=f"CN=Late {said}"):
        verify_signature(folder, CertificateVerifier((signer.issuer.pem,)))


def test_root_out_of_its_time(folder: Path, keys: Path) -> None:
    """A root that expired is none, though the certificate under it is still valid."""
    old = a_party(keys, "Old CA", days=(-100, -1))
    young = a_party(keys, "Young", old)
    sign(folder, CertificateSigner(young.key, young.pem))
    with pytest.raises(IntegrityError, match="CN=Old CA is not trusted: certificate has expired"):
        verify_signature(folder, CertificateVerifier((old.pem,)))


SERVER, CLIENT, ANY = (
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)
NOT_FOR_CODE = "is not for signing code, but for"


def signed_by_library(folder: Path, party: Party, *between: Party) -> None:
    """Sign as somebody does who does not look at what a certificate is for."""
    from model_signing import hashing, signing

    config = hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)
    chain = [one.pem for one in between] or [party.pem]
    signing.Config().set_hashing_config(config).use_certificate_signer(
        private_key=party.key, signing_certificate=party.pem, certificate_chain=chain
    ).sign(folder, folder / SIGNATURE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"uses": [SERVER]}, f"{NOT_FOR_CODE} serverAuth"),
        ({"uses": [SERVER, CLIENT]}, f"{NOT_FOR_CODE} serverAuth, clientAuth"),
        ({"uses": [ANY]}, rf"{NOT_FOR_CODE} 2\.5\.29\.37\.0"),
        ({"uses": [x509.ObjectIdentifier("1.2.3.4")]}, rf"{NOT_FOR_CODE} 1\.2\.3\.4"),
        ({"uses": []}, f"{NOT_FOR_CODE} no use that it names"),
        ({"signs": False}, "the key in the certificate of CN=Plain is not for signing"),
        ({"is_authority": True, "uses": [ExtendedKeyUsageOID.CODE_SIGNING]}, "is an authority's"),
    ],
    ids=["web server", "web server and client", "anything", "another", "none", "key", "authority"],
)
def test_certificate_not_for_signing(
    folder: Path, keys: Path, root: Party, changes: dict[str, object], said: str
) -> None:
    """A certificate for something else neither signs nor verifies, though the library would let it."""
    plain = a_party(keys, "Plain", root, **changes)
    with pytest.raises(RecipeError, match=rf"{said}.*; ask who issued it for one with extendedKeyUsage=code"):
        sign(folder, CertificateSigner(plain.key, plain.pem))
    signed_by_library(folder, plain)
    with pytest.raises(IntegrityError, match=rf"model.sig: .*{said}"):
        verify_signature(folder, CertificateVerifier((root.pem,)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"is_authority": False}, "invalid CA certificate"),
        ({"key_cert_sign": True}, "invalid CA certificate|the certificate of CN=Middle CA is no authority"),
        ({"uses": [SERVER]}, "the authority CN=Middle CA issues no certificates for signing code"),
        ({"days": (-5, -1)}, "the certificate of CN=Middle CA expired on"),
    ],
    ids=["a signer's", "without basic constraints", "of web servers", "expired"],
)
def test_authority_that_is_none(
    folder: Path, keys: Path, root: Party, changes: dict[str, object], said: str
) -> None:
    """Whoever has a certificate cannot issue others with it, unless it says so, for signing code."""
    middle = a_party(keys, "Middle CA", root, **changes)
    last = a_party(keys, "Last", middle)
    signed_by_library(folder, last, middle)
    with pytest.raises(IntegrityError, match=said):
        verify_signature(folder, CertificateVerifier((root.pem,)))


def test_authority_for_signing_code(folder: Path, keys: Path, root: Party) -> None:
    """One that says it issues such, or anything, does."""
    for use in (ExtendedKeyUsageOID.CODE_SIGNING, ANY):
        middle = a_party(keys, "Middle CA", root, uses=[use])
        last = a_party(keys, "Last", middle)
        sign(folder, CertificateSigner(last.key, last.pem, (middle.pem,)))
        assert verify_signature(folder, CertificateVerifier((root.pem,))).by == "CN=Last"


def test_certificates_without_end(folder: Path, signer: Party, root: Party) -> None:
    """A signature brings a handful of certificates."""
    signed_by_library(folder, signer, *(signer,) * 10)
    with pytest.raises(IntegrityError, match="model.sig holds 11 certificates, 10 expected at most"):
        verify_signature(folder, CertificateVerifier((root.pem,)))


def test_weak_signatures(folder: Path, keys: Path, root: Party) -> None:
    """An authority between whose key can be had, or whose certificate can be forged, vouches for nobody."""
    key = rsa.generate_private_key(65537, 1024)
    weak = a_party(keys, "Weak CA", root, key=key)
    last = a_party(keys, "Last", weak)
    signed_by_library(folder, last, weak)
    with pytest.raises(IntegrityError, match="the key of CN=Weak CA has 1024 bits, 2048 expected at least"):
        verify_signature(folder, CertificateVerifier((root.pem,)))


def test_who_is_expected(folder: Path, keys: Path, signer: Party, root: Party) -> None:
    """With a subject, whole or its common name, others whom the same root vouches for are refused."""
    sign(folder, CertificateSigner(signer.key, signer.pem))
    for name in ("Signer", "CN=Signer"):
        assert verify_signature(folder, CertificateVerifier((root.pem,), name)).by == "CN=Signer"
    for name in ("signer", "Sign", "CN=Root CA", ""):
        with pytest.raises(IntegrityError, match=f"signed by CN=Signer, not by {name}$"):
            verify_signature(folder, CertificateVerifier((root.pem,), name))


def test_name_that_moves_the_cursor(folder: Path, keys: Path, root: Party) -> None:
    """A signer's name is printed with its escapes, and is expected as it is printed."""
    name = "A\x1b[2J\u202e\n<b>"
    party = a_party(keys, name, root)
    sign(folder, CertificateSigner(party.key, party.pem))
    by = verify_signature(folder, CertificateVerifier((root.pem,))).by
    assert by.isprintable()
    assert r"\x1b[2J\u202e" in by
    assert verify_signature(folder, CertificateVerifier((root.pem,), by)).by == by
    with pytest.raises(IntegrityError) as caught:
        verify_signature(folder, CertificateVerifier((root.pem,), "B"))
    assert str(caught.value).isprintable()


def test_certificate_of_another_key(folder: Path, signer: Party, stranger: Party) -> None:
    """Key and certificate belong together."""
    with pytest.raises(RecipeError, match="Signer.pem is not the certificate of .*Stranger-CA.key"):
        sign(folder, CertificateSigner(stranger.key, signer.pem))


def test_files_that_are_no_keys(folder: Path, keys: Path, signer: Party) -> None:
    """Text, no file, a folder, another kind of key, the wrong half: one line each, and what to type."""
    sign(folder, KeySigner(signer.key))

    def refused(act: Callable[[], object], said: str) -> None:
        with pytest.raises(RecipeError, match=said) as caught:
            act()
        assert "\n" not in str(caught.value)

    text = keys / "text.pem"
    text.write_text("hello", encoding="utf-8")
    other = {"rsa": rsa.generate_private_key(65537, 2048), "ed25519": ed25519.Ed25519PrivateKey.generate()}
    other["k1"] = ec.generate_private_key(ec.SECP256K1())
    refused(
        lambda: sign(folder, KeySigner(text)),
        "text.pem is no private key in PEM; make one with `openssl ecparam",
    )
    refused(lambda: sign(folder, KeySigner(signer.public)), "Signer.pub is no private key in PEM")
    refused(
        lambda: sign(folder, KeySigner(keys / "nowhere")),
        "nowhere: no such file; wanted a private key in PEM",
    )
    refused(lambda: sign(folder, KeySigner(keys)), "cannot be read: Is a directory; wanted a private key")
    refused(lambda: verify_signature(folder, KeyVerifier(text)), "text.pem is no public key in PEM")
    refused(
        lambda: verify_signature(folder, KeyVerifier(signer.key)),
        "is a private key; get the public one with `openssl ec -in",
    )
    refused(lambda: sign(folder, CertificateSigner(signer.key, text)), "text.pem is no certificate in PEM")
    sign(folder, CertificateSigner(signer.key, signer.pem))
    refused(
        lambda: verify_signature(folder, CertificateVerifier((text,))), "text.pem is no certificate in PEM"
    )
    sign(folder, KeySigner(signer.key))
    for name, key in other.items():
        path = keys / name
        path.write_bytes(private_pem(key))
        refused(
            lambda path=path: sign(folder, KeySigner(path)), "a key of .*; wanted one of P-256, P-384, P-521"
        )
        path.write_bytes(public_pem(key))
        refused(
            lambda path=path: verify_signature(folder, KeyVerifier(path)),
            "a key of .*; wanted one of P-256, P-384, P-521",
        )


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_larger_curves(folder: Path, keys: Path, curve: ec.EllipticCurve) -> None:
    """The other curves of the standard sign too."""
    key = ec.generate_private_key(curve)
    (keys / "large.key").write_bytes(private_pem(key))
    (keys / "large.pub").write_bytes(public_pem(key))
    sign(folder, KeySigner(keys / "large.key"))
    assert verify_signature(folder, KeyVerifier(keys / "large.pub")).files


@pytest.fixture
def locked(keys: Path, signer: Party) -> Path:
    """The signer's key under a password."""
    path = keys / "locked.key"
    path.write_bytes(private_pem(signer.private, PASSWORD))
    return path


@pytest.mark.parametrize("where", ["environment", "prompt"])
def test_password(
    folder: Path,
    locked: Path,
    ways: tuple[Callable[[Path], Signer], Verifier],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """An encrypted key signs with the password of the environment, else with that of whoever is asked."""
    asked: list[str] = []
    if where == "environment":
        monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return PASSWORD

    signs, verifier = ways
    sign(folder, signs(locked), ask=ask)
    assert verify_signature(folder, verifier).files
    assert asked == ([f"password of {locked}"] if where == "prompt" else [])


def test_password_wrong_or_unknown(
    folder: Path, locked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, and the password is in neither of them, nor printed."""
    with pytest.raises(RecipeError, match="locked.key is encrypted; set EXPORTER_KEY_PASSWORD"):
        sign(folder, KeySigner(locked))
    monkeypatch.setenv(PASSWORD_VARIABLE, "battery staple")
    with pytest.raises(RecipeError, match="locked.key: wrong password") as caught:
        sign(folder, KeySigner(locked))
    assert "staple" not in str(caught.value) + "".join(capsys.readouterr())
    assert not (folder / SIGNATURE).exists()


def test_sigstore_that_cannot_be_reached(
    folder: Path, signer: Party, root: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network sigstore is a backend that failed, in one line, and nothing is left behind."""
    from model_signing import signing, verifying

    def no_network(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(signing.Config, "use_sigstore_signer", no_network)
    monkeypatch.setattr(verifying.Config, "use_sigstore_verifier", no_network)
    with pytest.raises(
        BackendError, match="sigstore cannot be used: no route to host; sign and verify with a key"
    ):
        sign(folder, SigstoreSigner())
    assert not (folder / SIGNATURE).exists()
    sign(folder, CertificateSigner(signer.key, signer.pem))
    content = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    content["verificationMaterial"] = {"certificate": {"rawBytes": ""}}
    (folder / SIGNATURE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BackendError, match="sigstore cannot be used: no route to host"):
        verify_signature(folder, SigstoreVerifier("me@example.org", "https://accounts.example.org"))


def test_disk_that_refuses(folder: Path, signer: Party) -> None:
    """A signature that cannot be written is an error of the disk."""
    (folder / SIGNATURE).mkdir()
    with pytest.raises(ExporterError, match="model.sig"):
        sign(folder, KeySigner(signer.key))
