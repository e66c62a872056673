"""Programs that root starts as another user: the command, the data below closed folders, and a copy of the programs."""

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

USER = "nobody"
_FIRST_DESCRIPTOR = 3  # after the standard streams
_PREFIX = "cooee-postgres-"
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")


def opened_path(position: int) -> str:
    """Return the path of the file or folder at this position of the `paths` of `as_user`."""
    return f"/proc/self/fd/{_FIRST_DESCRIPTOR + position}"


def as_user(paths: Sequence[Path], command: Sequence[str]) -> list[str]:
    """Return a command line that runs `command` as `USER`, without any of root's rights.

    The folders above `paths` may be closed to the user. So root opens the paths, and the program reaches them through
    the open descriptors, as `opened_path` names them. The program gets no capability.
    """
    opened = " ".join(f'{_FIRST_DESCRIPTOR + position}<"${position + 1}"' for position in range(len(paths)))
    script = f'exec {opened} && cd / && shift {len(paths)} && exec "$@"'
    # A change of user clears the signal that `request_death_signal` asked for, so setpriv asks for it again.
    drop = ["setpriv", f"--reuid={USER}", f"--regid={_ids()[1]}", "--clear-groups", "--pdeathsig=INT"]
    return ["/bin/sh", "-c", script, "sh", *map(str, paths), *drop, *command]


def give_to_user(*paths: Path) -> None:
    """Make `USER` the owner of the paths and of all that is below them."""
    uid, gid = _ids()
    for top in paths:
        if top.stat().st_uid != uid:
            for path in (top, *top.rglob("*")):
                os.chown(path, uid, gid, follow_symlinks=False)


def is_open_to_user(program: Path) -> bool:
    """Return whether `USER` may enter every folder above the program, and read and run it."""
    wanted = stat.S_IXOTH | stat.S_IROTH
    folders = program.resolve().parents
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders) and program.stat().st_mode & wanted == wanted


def copy_package(package: Path) -> Path:
    """Copy a package of programs to a new temporary folder and return the copy. `USER` may read and run it.

    A folder `<package>.libs` beside it, where a wheel has its libraries, is copied too. The temporary folder has a
    random name and belongs to root, so that no other user can prepare or change it. Only root and the user's group may
    enter it. Raises OSError.
    """
    top = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_temporary_folder()))  # mode 0700
    try:
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                ignored = shutil.ignore_patterns("include", "__pycache__")
                shutil.copytree(source, top / source.name, symlinks=True, ignore=ignored)
        for path in top.rglob("*"):
            os.chown(path, 0, 0, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        os.chown(top, 0, _ids()[1])
        top.chmod(0o750)
    except BaseException:
        shutil.rmtree(top, ignore_errors=True)
        raise
    return top / package.name


def remove_package(copy: Path) -> None:
    """Remove a copy that `copy_package` returned. A folder of another owner or name stays."""
    top = copy.parent
    try:
        found = top.lstat()
    except OSError:
        return
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and top.name.startswith(_PREFIX):
        shutil.rmtree(top, ignore_errors=True)


def _temporary_folder() -> str:
    """Return a temporary folder that every user may enter and from which programs may run. Raises OSError."""
    for folder in (tempfile.gettempdir(), *_TEMPORARY):
        path = Path(folder).resolve()
        if not path.is_dir() or os.statvfs(path).f_flag & os.ST_NOEXEC:
            continue
        if all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents)):
            return str(path)
    raise OSError(f"{USER} may run programs in none of the temporary folders: set TMPDIR to one where it may")


def _ids() -> tuple[int, int]:
    entry = pwd.getpwnam(USER)
    return entry.pw_uid, entry.pw_gid
