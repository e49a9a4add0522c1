"""Whatever is written is there whole or not at all, whenever the process ends, and on the disk before it has its name.

Each operation runs in a fork that ends, without any clean-up, ahead of its first, second, third … act on the disk.
"""

import errno
import os
import posix
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import few_fast

from lapel.files import writing
from lapel.files.writing import folder_written_whole, link_to, standing, together, written_whole

CONTENT = {"a.bin": b"a" * 5000, "inside/b.bin": b"b" * 9000, "manifest.json": b"{}"}


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def fill(folder: Path, version: int) -> None:
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("wb", buffering=0) as file:
            for start in range(0, len(content), 4096):
                os.write(file.fileno(), content[start : start + 4096])
            os.write(file.fileno(), str(version).encode())


def expected(version: int) -> dict[str, bytes]:
    return {name: content + str(version).encode() for name, content in sorted(CONTENT.items())}


class Acts:
    """Counts what is done to the disk, writes it down, and ends the process ahead of a given act."""

    def __init__(self, last: int | None) -> None:
        self.left = last
        self.done: list[tuple[str, str]] = []

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name in (
            (os, "write"), (os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"),
            (os, "symlink"), (os, "mkdir"), (writing, "exchange"),
        ):  # fmt: skip
            patch.setattr(owner, name, self._counted(name, getattr(owner, name)))

    def _counted(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                posix._exit(9)
            self.left = None if self.left is None else self.left - 1
            first = arguments[0]
            where = str(Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else first)
            self.done.append((name, where))
            return act(*arguments, **options)

        return counted


def ended_ahead_of(act: int | None, work: Callable[[], None]) -> bool:
    """Do the work in a fork that ends ahead of an act; whether it came so far."""
    child = posix.fork()
    if child == 0:
        code = 1
        try:
            with pytest.MonkeyPatch.context() as patch:
                Acts(act).watch(patch)
                work()
            code = 0
        finally:
            posix._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def every_end(work: Callable[[], None], check: Callable[[], None]) -> int:
    """Run the work with an end ahead of each of its acts, and check after each; how many there were."""
    act = 0
    while ended_ahead_of(act, work):
        check()
        act += 1
    check()
    return act


def write_folder(folder: Path, version: int) -> None:
    with folder_written_whole(folder) as partial:
        fill(partial, version)


@pytest.mark.parametrize("exchanging", [True, False], ids=["exchanged", "set aside"])
@pytest.mark.parametrize("before", ["folder", "link", "nothing"])
def test_a_folder_is_old_or_new_whenever_its_writer_ends(
    before: str, exchanging: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanging:
        monkeypatch.setattr(writing, "exchange", lambda *_: False)
    elif not exchange_works(tmp_path):
        pytest.skip("this file system cannot exchange two names")
    folder = tmp_path / "bundle"
    write_folder(tmp_path / "other", 0)
    if before == "folder":
        write_folder(folder, 0)
    elif before == "link":
        folder.symlink_to("other")
    seen = []

    def check() -> None:
        if before == "nothing" and not standing(folder).exists():
            seen.append("nothing")
            return
        found = content_of(standing(folder))
        assert found in (expected(0), expected(1))
        seen.append("new" if found == expected(1) else "old")

    acts = every_end(lambda: write_folder(folder, 1), check)
    assert acts > 10
    assert seen[-1] == "new"
    assert seen == sorted(seen, key=["nothing", "old", "new"].index)
    write_folder(folder, 2)  # what was left by those that ended is no hindrance, and gone afterwards
    assert content_of(folder) == expected(2)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bundle", "other"]


def exchange_works(folder: Path) -> bool:
    one, other = folder / "one", folder / "two"
    one.mkdir()
    other.mkdir()
    works = writing.exchange(one, other)
    one.rmdir()
    other.rmdir()
    return works


def test_files_that_belong_together_are_named_by_a_pointer_that_is_old_or_new(tmp_path: Path) -> None:
    def write(version: int) -> None:
        with together(tmp_path, "manifest.json") as staged:
            for name, content in CONTENT.items():
                numbered = name if name == "manifest.json" else f"{name}-{version}"
                staged.file(numbered).write_bytes(content + str(version).encode())

    write(0)

    def check() -> None:
        version = int((tmp_path / "manifest.json").read_bytes()[2:])
        for name, content in CONTENT.items():
            if name != "manifest.json":
                assert (tmp_path / f"{name}-{version}").read_bytes() == content + str(version).encode()

    assert every_end(lambda: write(1), check) > 5
    assert (tmp_path / "manifest.json").read_bytes() == b"{}1"


def test_a_file_and_a_link_are_old_or_new(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"old")
    link_to(link, tmp_path / "a")

    def write() -> None:
        with written_whole(file) as temporary:
            temporary.write_bytes(b"new")
        link_to(link, tmp_path / "b")

    def check() -> None:
        assert file.read_bytes() in (b"old", b"new")
        assert link.resolve() in (tmp_path / "a", tmp_path / "b")

    assert every_end(write, check) >= 5


def test_everything_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "bundle", 0)
    acts = Acts(None)
    acts.watch(monkeypatch)
    write_folder(tmp_path / "bundle", 1)
    names = [name for name, _ in acts.done]
    named = max(number for number, name in enumerate(names) if name in ("exchange", "rename", "replace"))
    synced = [Path(where) for name, where in acts.done[:named] if name == "fsync"]
    partial = tmp_path / ".bundle.partial"
    assert {partial / name for name in CONTENT} | {partial / "inside", partial} <= set(synced)
    assert synced.index(partial / "inside") > synced.index(partial / "inside" / "b.bin")
    assert synced[-1] == partial
    assert ("fsync", str(tmp_path)) in acts.done[named:]


def test_files_are_synced_before_the_pointer_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acts = Acts(None)
    acts.watch(monkeypatch)
    with together(tmp_path, "pointer") as staged:
        staged.file("inside/a").write_bytes(b"a")
        staged.file("pointer").write_bytes(b"p")
    kinds = [
        (name, Path(where).name.split("-")[0]) for name, where in acts.done if name in ("fsync", "rename", "replace")
    ]
    folder = tmp_path.name.split("-")[0]
    renamed = [number for number, (name, _) in enumerate(kinds) if name in ("rename", "replace")]
    assert [name for name, _ in kinds].count("fsync") == 4
    assert {("fsync", ".a"), ("fsync", ".pointer")} <= set(kinds[: renamed[0]])
    assert ("fsync", "inside") in kinds[: renamed[-1]]
    assert kinds[-1] == ("fsync", folder)


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_folder(folder, 0)

    def fail() -> None:
        with folder_written_whole(folder) as partial:
            fill(partial, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert content_of(folder) == expected(0)

    def fail_among_several() -> None:
        with together(folder, "manifest.json") as staged:
            staged.file("a.bin").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_among_several()
    assert content_of(folder) == expected(0)
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


def test_files_have_the_permissions_that_new_files_have(tmp_path: Path) -> None:
    for mask, expected_mode in ((0o002, 0o664), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            with written_whole(tmp_path / "file") as temporary:
                temporary.write_bytes(b"new")
        finally:
            os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == expected_mode


def test_what_killed_writers_left_goes_with_the_next_write_and_nothing_else(tmp_path: Path) -> None:
    def write() -> None:
        with together(tmp_path, "pointer") as staged:
            for name in ("a", "below/b", "pointer"):
                staged.file(name).write_bytes(b"new")

    assert every_end(write, lambda: None) > 5
    (tmp_path / ".a-mine").write_bytes(b"a user's")
    (tmp_path / ".other-0123abcd").write_bytes(b"of another name")
    with written_whole(tmp_path / "a") as living:
        living.write_bytes(b"slow")
        write()
    left = sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file())
    assert left == [".a-mine", ".other-0123abcd", "a", "below/b", "pointer"]
    assert (tmp_path / "a").read_bytes() == b"slow"


WRITERS = {
    "torch": "torch.save({'a': torch.zeros(100_000)}, file)",
    "torchscript": "torch.jit.save(torch.jit.script(torch.nn.Linear(300, 300)), file)",
    "faiss": "index = faiss.IndexFlat(64); index.add(np.zeros((9000, 64), 'f4')); write_index(index, path)",
    "text": "Path(path).write_text('x' * 400_000)",
}


@pytest.mark.parametrize("writer", few_fast(WRITERS, ["torch", "faiss"]))
def test_what_the_system_refuses_to_write_is_told_with_a_path(writer: str, tmp_path: Path) -> None:
    """Libraries speak of positions and enforced conditions where the disk is full; torch, given a path, aborts."""
    code = (
        "import faiss, numpy as np, resource, signal, sys, torch; from pathlib import Path\n"
        "from lapel.bundle.index import write_index; from lapel.files.writing import opened, written_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n"
        f"    with written_whole(Path(sys.argv[1])) as path, opened(path) as file:\n        {WRITERS[writer]}\n"
        "except OSError as error: print(error.errno, error.filename)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "file")], capture_output=True, text=True, check=True
    )
    number, path = done.stdout.split()
    assert int(number) == errno.EFBIG
    assert path.startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


def _number_of(folder: Path) -> int | None:
    """What tells a folder from another one of its name; None where there is none."""
    with suppress(FileNotFoundError):
        return folder.stat().st_ino
    return None


def test_two_writers_of_a_folder_wait_for_each_other(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lapel.files.writing import folder_written_whole\n"
        "folder, version = Path(sys.argv[1]), sys.argv[2]\n"
        "for number in range(30):\n"
        "    with folder_written_whole(folder) as partial:\n"
        "        for name in 'abc':\n"
        "            (partial / name).write_text(version + str(number)); time.sleep(0.001)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "bundle"), version]) for version in ("one", "two")
    ]
    while any(each.poll() is None for each in writers):
        before = _number_of(tmp_path / "bundle")
        found = content_of(tmp_path / "bundle") if before is not None else {}
        if before == _number_of(tmp_path / "bundle"):  # else the one that was looked at was taken away meanwhile
            assert len(found) in (0, 3)
    assert [each.returncode for each in writers] == [0, 0]
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_a_folder_survives_real_kills(tmp_path: Path) -> None:
    """20 SIGKILLs at moments spread over the writing of a large folder."""
    folder = tmp_path / "bundle"
    code = (
        "import sys; from pathlib import Path; from lapel.files.writing import folder_written_whole\n"
        "version = int(sys.argv[2])\n"
        "while True:\n"
        "    with folder_written_whole(Path(sys.argv[1])) as partial:\n"
        "        for name in range(20):\n"
        "            (partial / str(name)).write_bytes(version.to_bytes(2, 'big') * 20_000)\n"
        "    version += 1; print(version, flush=True)\n"
    )
    version = 1
    for kill in range(20):
        writer = subprocess.Popen([sys.executable, "-c", code, str(folder), str(version)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.002 * kill)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        found = content_of(standing(folder))
        assert len(found) == 20
        (written,) = {content[:2] * 20_000 for content in found.values()}
        assert set(found.values()) == {written}
        version = int.from_bytes(written[:2], "big") + 1
