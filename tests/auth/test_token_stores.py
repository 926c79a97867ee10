# ruff: noqa: ASYNC240 - the tests look at small files while nothing else runs
import asyncio
import errno
import multiprocessing
import os
import stat
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from healthmsg import FileTokenStore, MemoryTokenStore, Token, TokenStore
from healthmsg.errors import InvalidInputError, TokenStoreError
from tests.auth.token_service import NOON, VALUE, assert_tells_no_secret, expiring

USER = "Jansen, J. é 🙂"
posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, path: Path) -> TokenStore:
    return MemoryTokenStore() if request.param == "memory" else FileTokenStore(path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


# --- what holds for every store


@pytest.mark.parametrize(
    "token", [expiring(), Token(VALUE), Token(VALUE, ("read", "write"), created_at=NOON)]
)
async def test_what_was_saved_is_loaded(store: TokenStore, token: Token) -> None:
    await store.save(USER, token)
    assert await store.load(USER) == token


async def test_users_are_kept_apart_and_forgotten_one_by_one(store: TokenStore) -> None:
    assert await store.load(USER) is None
    await store.delete(USER)
    await store.save(USER, Token("one"))
    await store.save("other", Token("two"))
    await store.save(USER, Token("three"))
    await store.delete("other")
    kept = await store.load(USER)
    assert kept is not None
    assert kept.value == "three"
    assert await store.load("other") is None


# --- the file


async def test_a_file_outlives_its_store(path: Path) -> None:
    await FileTokenStore(path).save(USER, expiring())
    assert await FileTokenStore(str(path)).load(USER) == expiring()
    assert set(orjson.loads(path.read_bytes())) == {USER}


@posix_only
async def test_the_file_is_its_owners_alone_from_the_moment_it_exists(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    replace = Path.replace

    def look_and_replace(self: Path, target: Path) -> Path:
        seen.append(mode(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", look_and_replace)
    umask = os.umask(0)
    try:
        store = FileTokenStore(path)
        for n in range(3):
            await store.save(f"user {n}", expiring())
            assert mode(path) == 0o600
    finally:
        os.umask(umask)
    assert seen == [0o600] * 3
    assert all(mode(file) == 0o600 for file in path.parent.iterdir())


@posix_only
@pytest.mark.parametrize("others", [0o640, 0o604, 0o660, 0o644])
async def test_a_file_that_others_can_read_is_refused(path: Path, others: int) -> None:
    store = FileTokenStore(path)
    await store.save(USER, expiring())
    path.chmod(others)
    for call in (store.load(USER), store.save(USER, expiring()), store.delete(USER)):
        with pytest.raises(TokenStoreError, match="chmod 600") as caught:
            await call
        assert_tells_no_secret(caught.value, path.name)


GOOD_ENTRY: dict[str, object] = {
    "value": VALUE,
    "scopes": [],
    "created_at": NOON.isoformat(),
    "expires_at": None,
    "refresh_token": None,
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        f'{{"u": {{"value": "{VALUE}"'.encode(),
        f'["{VALUE}"]'.encode(),
        b"\xff\xfe",
        b"null",
        orjson.dumps({"u": VALUE}),
        orjson.dumps({"u": [VALUE]}),
        orjson.dumps({"u": {"value": VALUE}}),
        orjson.dumps({"u": {**GOOD_ENTRY, "value": f"{VALUE}\n"}}),
        orjson.dumps({"u": {**GOOD_ENTRY, "scopes": VALUE}}),
        orjson.dumps({"u": {**GOOD_ENTRY, "created_at": VALUE}}),
        orjson.dumps({"u": {**GOOD_ENTRY, "created_at": "2026-03-01T12:00:00"}}),
        orjson.dumps({"u": {**GOOD_ENTRY, "created_at": "9999-12-31T23:59:59-10:00"}}),
        orjson.dumps({"u": {**GOOD_ENTRY, "expires_at": 7}}),
        orjson.dumps({"u": {**GOOD_ENTRY, "refresh_token": ""}}),
    ],
)
async def test_a_damaged_file_is_an_error_that_repeats_nothing_of_it(path: Path, content: bytes) -> None:
    write(path, content)
    with pytest.raises(TokenStoreError, match="damaged") as caught:
        await FileTokenStore(path).load("u")
    assert_tells_no_secret(caught.value)
    assert path.read_bytes() == content


async def test_a_damaged_file_is_not_overwritten(path: Path) -> None:
    write(path, b"{")
    with pytest.raises(TokenStoreError, match="damaged"):
        await FileTokenStore(path).save(USER, expiring())
    assert path.read_bytes() == b"{"


@posix_only
async def test_behind_a_symbolic_link_the_target_is_replaced(tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path.symlink_to(folder / "real.json")
    await FileTokenStore(path).save(USER, expiring())
    await FileTokenStore(path).save("other", expiring())
    assert path.is_symlink()
    assert set(orjson.loads((folder / "real.json").read_bytes())) == {USER, "other"}


async def test_a_failure_while_writing_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileTokenStore(path)
    await store.save(USER, expiring())
    before, files = path.read_bytes(), set(path.parent.iterdir())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TokenStoreError, match="written: No space left") as caught:
        await store.save(USER, Token("new"))
    assert_tells_no_secret(caught.value, path.name)
    assert (path.read_bytes(), set(path.parent.iterdir())) == (before, files)


@posix_only
async def test_the_file_and_then_its_folder_are_on_the_disk_before_save_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
    )
    await FileTokenStore(path).save(USER, expiring())
    assert synced == [False, True]


async def test_a_missing_folder_is_an_error_that_names_no_path(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "missing" / "tokens.json")
    assert await store.load(USER) is None
    with pytest.raises(TokenStoreError, match="No such file") as caught:
        await store.save(USER, expiring())
    assert_tells_no_secret(caught.value, "missing", tmp_path.name)


async def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TokenStoreError):
        await FileTokenStore(tmp_path).load(USER)


@pytest.mark.parametrize("user", ["", "\ud800", None])
async def test_a_user_that_cannot_be_written_is_refused(path: Path, user: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await FileTokenStore(path).save(user, expiring())
    assert_tells_no_secret(caught.value)
    assert not path.exists()


async def test_the_file_is_not_touched_in_the_event_loops_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    make = tempfile.mkstemp

    def look_and_make(dir: Path, prefix: str) -> tuple[int, str]:  # noqa: A002 - mkstemp's own name
        threads.append(threading.current_thread())
        return make(dir=dir, prefix=prefix)

    monkeypatch.setattr(tempfile, "mkstemp", look_and_make)
    await FileTokenStore(path).save(USER, expiring())
    assert threads
    assert threading.main_thread() not in threads


async def test_concurrent_saves_of_several_stores_lose_nothing(path: Path) -> None:
    stores = [FileTokenStore(path) for _ in range(4)]
    await asyncio.gather(*(stores[n % 4].save(f"user {n}", expiring()) for n in range(60)))
    assert len(orjson.loads(path.read_bytes())) == 60


def save_twenty(path: Path, process: int) -> None:
    async def save() -> None:
        for n in range(20):
            await FileTokenStore(path).save(f"{process} {n}", expiring(value=f"t{n}"))

    asyncio.run(save())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock between processes")
def test_concurrent_saves_of_several_processes_lose_nothing(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=save_twenty, args=(path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(orjson.loads(path.read_bytes())) == 60


async def test_entries_that_another_version_wrote_survive_a_save(path: Path) -> None:
    write(path, orjson.dumps({"their user": {"format": 9}}))
    await FileTokenStore(path).save(USER, expiring())
    assert orjson.loads(path.read_bytes())["their user"] == {"format": 9}


def test_a_store_shows_no_token_in_its_repr() -> None:
    store = MemoryTokenStore()
    asyncio.run(store.save(USER, Token(VALUE, expires_at=NOON + timedelta(days=3))))
    assert VALUE not in repr(store)
