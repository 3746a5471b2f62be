"""Who signs for whom in tests of TLS? An authority, and a server and a client with certificates of it; by openssl."""

import shutil
import subprocess
from pathlib import Path

import pytest


def write_certificates(folder: Path) -> Path:
    """Writes ca.pem, and server.key, server.pem, client.key, client.pem for localhost and 127.0.0.1; two days long."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl to make certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ["req", "-newkey", "rsa:2048", "-nodes"]
    openssl(*new_key, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(*new_key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        openssl(*signing, "-days", "2", "-extfile", "names", "-out", f"{name}.pem")
    return folder
