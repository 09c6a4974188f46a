"""Archives whose members attack, and damaged ones."""

import io
import os
import random
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from transformer_lens_fork.sdist import unpack
from validation.tests.malformed.conftest import SEED, Refused, flip


def _hostile_members(random_: random.Random) -> Iterator[list[tarfile.TarInfo]]:
    names = ["/etc/cron.d/x", "../x", "top/../../x", "top/a/../../../x", "/", ".", "..", "./..", ""]
    names += ["top/" + "n" * 300, "top/" + "d/" * 3000 + "x", "top/.git/config", "top2/x", "x"]
    names += ["top/\x1b[2J/../..", "//x", "top/a/b", "C:\\x", "top//../../y"]
    for name in names:
        yield [_member("top/a"), _member(name)]
    for target in ("/etc/passwd", "..", "../..", "../../x", "../top2", "/", "a/../../.."):
        yield [_member("top/a"), _member("top/l", type=tarfile.SYMTYPE, linkname=target)]
        yield [_member("top/a"), _member("top/l", type=tarfile.LNKTYPE, linkname=target)]
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"):
        yield [_member("top/a"), _member("top/d", type=kind, devmajor=1, devminor=3)]
    loop = _member("top/l", type=tarfile.SYMTYPE, linkname="l2")
    yield [loop, _member("top/l/x")]
    yield [_member("top/a"), _member("top/a")]
    yield [_member("top/a/b"), _member("top/a")]
    for size in (2**31, 2**40, 2**62):
        yield [_member("top/a", size=size)]
    yield [_member("top/a", type=tarfile.GNUTYPE_SPARSE, size=2**40)]
    yield []
    for _ in range(20):
        depth = random_.randrange(1, 5)
        parts = [random_.choice(["..", "top", "a", ".git"]) for _ in range(depth)]
        yield [_member("top/a"), _member("/".join([*parts, "..", "..", "..", "..", "..", "x"]))]


def _member(name: str, **attributes: str | bytes | int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def test_hostile_archives(tmp_path: Path, refusal: Refused) -> None:
    """None is unpacked, and none leaves a trace outside its folder or in it."""
    inside = tmp_path / "inside"
    inside.mkdir()
    for members in _hostile_members(random.Random(SEED)):
        archive = inside / "evil.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for info in members:
                tar.addfile(info, None if info.size else io.BytesIO())
        sentence = refusal(lambda: unpack(inside / "evil.tar.gz", inside / "tree"))
        assert sentence, [info.name for info in members]
        assert "evil.tar.gz is not unpacked" in sentence
        assert os.listdir(inside) == ["evil.tar.gz"]
        assert os.listdir(tmp_path) == ["inside"]


def test_damaged_archives(tmp_path: Path, refusal: Refused) -> None:
    """Cut anywhere, an archive is refused; with a bit flipped it is refused or unpacked whole.

    That its content is the pinned one is the hash's business, which is checked before.
    """
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = _member("top/a", size=4000)
        tar.addfile(info, io.BytesIO(random.Random(SEED).randbytes(4000)))
    sound = archive.read_bytes()
    random_ = random.Random(SEED)
    for _ in range(20):
        archive.write_bytes(sound[: random_.randrange(len(sound) - 64)])
        assert refusal(lambda: unpack(archive, tmp_path / "tree"))
        assert os.listdir(tmp_path) == ["evil.tar.gz"]
    refused = 0
    for number in range(40):
        archive.write_bytes(flip(sound, random_, 0, len(sound)))
        tree = tmp_path / f"tree{number}"
        if refusal(partial(unpack, archive, tree)):
            refused += 1
            assert not tree.exists()
        else:
            assert (tree / "a").stat().st_size == 4000
    assert refused
