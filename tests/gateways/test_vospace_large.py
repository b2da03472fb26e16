"""Large files pass in constant memory, both ways and from node to node."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.gateways.vos_space import Space, phase_of
from tests.server.commands import peak, serving

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SIZE = 256 * MIB
BLOCK = hashlib.shake_256(b"seed").digest(MIB)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_256_mib_pass_in_constant_memory(tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--gateway", "vospace", "--open") as (url, pid):
        space = Space(url)
        for turn in range(20):
            space.upload("x", b"x" * (1000 + turn))
            space.bytes_of("x")
        idle = peak(pid)
        md5 = hashlib.md5()
        for _ in range(SIZE // MIB):
            md5.update(BLOCK)
        digest = "md5=" + base64.b64encode(md5.digest()).decode()
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        with contextlib.closing(connection):
            body = (BLOCK for _ in range(SIZE // MIB))
            headers = {"Content-Length": str(SIZE), "Digest": digest}
            connection.request("PUT", "/vos/files/large", body=body, headers=headers)
            with connection.getresponse() as response:
                assert (response.status, response.read()) == (201, b"")
            job = space.run("transfers", _copy())
            assert phase_of(job) == "COMPLETED"
            connection.request("GET", "/vos/files/copy")
            with connection.getresponse() as response:
                assert response.headers["Digest"] == digest
                size, found = 0, hashlib.md5()
                while piece := response.read(MIB):
                    size += len(piece)
                    found.update(piece)
            assert (size, found.digest()) == (SIZE, md5.digest())
        assert peak(pid) - idle < 64 * MIB


def _copy() -> str:
    names = 'xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0"'
    return (
        f"<vos:transfer {names}><vos:target>vos://kvstore~vos/large</vos:target>"
        "<vos:direction>vos://kvstore~vos/copy</vos:direction>"
        "<vos:keepBytes>true</vos:keepBytes></vos:transfer>"
    )
