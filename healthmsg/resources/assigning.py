"""Assigning an auxiliary id, and taking it away from nobody.

The service does not check [D]. So it is looked up first, and nobody else who uses this client can assign the
same one meanwhile. What another program does at the same moment cannot be seen.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from healthmsg.aio import together
from healthmsg.api import Api
from healthmsg.errors import AuxIdTakenError, NotFoundError
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import GroupChatInfo, User
from healthmsg.routes import GET_AUX_USER, GET_CHAT

_USER, _GROUP_CHAT = "a user", "a group chat"


@asynccontextmanager
async def without_user(api: Api, aux_ids: Iterable[str]) -> AsyncIterator[None]:
    """Hold auxiliary ids that no user has, until they are assigned.

    Raises:
        AuxIdTakenError: a user has one of them, or is being given it.
    """
    wanted = list(aux_ids)
    with _held(api, _USER, wanted):
        if any(
            await together(_exists(partial(api.read, User, GET_AUX_USER, aux_id=aux_id)) for aux_id in wanted)
        ):
            raise AuxIdTakenError(_USER)
        yield


@asynccontextmanager
async def without_group_chat(api: Api, aux_id: str) -> AsyncIterator[None]:
    """Hold an auxiliary id that no group chat has, until it is assigned.

    Raises:
        AuxIdTakenError: a group chat has it, or is being given it.
    """
    with _held(api, _GROUP_CHAT, [aux_id]):
        address = ChatAddress(ChatKind.AUX_GROUP_CHAT, aux_id)
        if await _exists(partial(api.read, GroupChatInfo, GET_CHAT, address)):
            raise AuxIdTakenError(_GROUP_CHAT)
        yield


@contextmanager
def _held(api: Api, holder: str, aux_ids: Iterable[str]) -> Iterator[None]:
    wanted = {(holder, aux_id) for aux_id in aux_ids}
    if not api.assigning.isdisjoint(wanted):
        raise AuxIdTakenError(holder)
    api.assigning.update(wanted)
    try:
        yield
    finally:
        api.assigning.difference_update(wanted)


async def _exists(read: Callable[[], Awaitable[object]]) -> bool:
    try:
        await read()
    except NotFoundError:
        return False
    return True
