"""CA bundles that the API server gives become files, replaced in place."""

from __future__ import annotations

from pathlib import Path

import trustme

from vmcp.http.client.tls import Trust
from vmcp.kube.bundles import Bundles

PATH = "/etc/toolhive/ca-bundles/a/ca.crt"


def pem() -> bytes:
    return trustme.CA().cert_pem.bytes()


def test_whoever_uses_a_bundle_notices_that_it_was_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    bundles = Bundles()
    files = bundles.write({PATH: pem()})
    trust = Trust(files[PATH])
    trust.context()
    assert trust.generation == 1
    assert bundles.write({PATH: pem()}) == files
    trust.context()
    assert (trust.generation, trust.problem) == (2, "")
    bundles.close()


def test_the_same_content_is_not_written_again_and_what_is_not_needed_goes():
    bundles, content = Bundles(), pem()
    files = bundles.write({PATH: content, "/other": content})
    before = Path(files[PATH]).stat()
    files = bundles.write({PATH: content})
    assert Path(files[PATH]).stat() == before
    bundles.keep(files)
    directory = Path(files[PATH]).parent
    assert [path.name for path in directory.iterdir()] == [Path(files[PATH]).name]
    assert directory.stat().st_mode & 0o077 == 0, "nobody else looks into it"
    bundles.close()
    assert not directory.exists()
