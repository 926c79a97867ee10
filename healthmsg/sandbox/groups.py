"""Who may do what in a group chat, and who may be what. All of it is assumed [A]."""

from collections.abc import Iterable, Sequence

from healthmsg.sandbox.answers import forbidden, not_found, precondition_failed
from healthmsg.sandbox.records import Person, StoredChat
from healthmsg.sandbox.store import Store


def require_admin(chat: StoredChat, user: Person) -> None:
    """Refuse whoever is neither owner nor admin: most changes are theirs."""
    if not chat.is_admin(user):
        raise forbidden("Only the owner and the admins may do this.")


def require_owner(chat: StoredChat, user: Person) -> None:
    """Refuse everybody but the owner, who alone hands the chat over, and removes it."""
    if user is not chat.owner:
        raise forbidden("Only the owner may do this.")


def require_may_add_members(chat: StoredChat, user: Person) -> None:
    """Refuse an ordinary member, where the settings say so."""
    if not chat.settings.members_can_invite:
        require_admin(chat, user)


def require_may_remove_members(chat: StoredChat, user: Person, people: Sequence[Person]) -> None:
    """Refuse an ordinary member who wants more than to leave, and to remove the owner."""
    if list(people) != [user]:
        require_admin(chat, user)
    if chat.owner in people:
        raise precondition_failed("owner_stays", "The owner cannot be removed: hand the chat over first.")


def require_professionals(people: Iterable[Person]) -> None:
    """Refuse patients: they can be neither owner nor admin."""
    if any(person.company is None for person in people):
        raise precondition_failed("private_user", "A private user can be neither owner nor admin.")


def find_people(store: Store, ids: Iterable[str], *, by_aux_id: bool = False) -> Sequence[Person]:
    """Give the people with these ids; 404 unless there are all of them."""
    known = store.people_by_aux_id if by_aux_id else store.people
    found = [known.get(person_id) for person_id in ids]
    if None in found:
        raise not_found("user")
    return [person for person in found if person is not None]


def find_members(
    store: Store, chat: StoredChat, ids: Iterable[str], *, by_aux_id: bool = False
) -> Sequence[Person]:
    """Give the members with these ids; 404 also for people who are not in the chat."""
    people = find_people(store, ids, by_aux_id=by_aux_id)
    if not set(people) <= set(chat.members):
        raise not_found("user")
    return people
