"""Disks whose power fails: small file systems of their own, each in an image behind a loop device.

At the cut whoever writes there is stopped, the image is copied, and the writer killed; it goes on
with the copy. The copy has what the file system had sent to its disk at that moment, and none of
what was only in memory: each cut also proves that, on a file that was written and never synced.
What it can't show is a disk that says that it has written, and has not.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

IMAGE_BYTES = 48 * 1024 * 1024

NEVER_SYNCED = b"this was only in memory " * 4096


def need_disks(folder: Path) -> None:
    """Skip where no file system can be mounted."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a disk of one's own needs root and mkfs.ext4")
    tried = Disk(folder / "tried.image", folder / "tried")
    try:
        tried.make()
    except OSError as error:
        pytest.skip(f"no loop device can be mounted here: {error}")
    finally:
        tried.drop()


@dataclass
class Disk:
    """A file system in ``image``, mounted at ``folder``. ``drop`` it in the end."""

    image: Path
    folder: Path
    cuts: int = 0
    room: int = IMAGE_BYTES

    def make(self) -> None:
        self.folder.mkdir()
        with self.image.open("wb") as file:
            file.truncate(self.room)
        _run("mkfs.ext4", "-q", "-F", self.image)
        self._mount()

    def _mount(self) -> None:
        """Nothing is written back by the clock: only what somebody asks for is on the disk."""
        _run("mount", "-o", "loop,commit=300,noauto_da_alloc", self.image, self.folder)

    def cut(self) -> None:
        """From here on there is only what the disk had."""
        self.cuts += 1
        self._witness.write_bytes(NEVER_SYNCED)
        kept = self.image.with_suffix(f".{self.cuts}")
        shutil.copyfile(self.image, kept)
        _run("umount", "-l", self.folder)
        self.image.unlink()
        self.image = kept

    def back(self) -> None:
        self._mount()
        assert not self._witness.exists() or self._witness.read_bytes() != NEVER_SYNCED

    @property
    def _witness(self) -> Path:
        return self.folder / f"never-synced-{self.cuts}"

    def drop(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True)


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.stderr.strip()}")
