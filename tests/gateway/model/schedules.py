"""Random schedules through the model of `world.py`."""

from collections import Counter
from collections.abc import Callable
from random import Random

from healthmsg.gateway.catch_up import CatchUp
from tests.gateway.model.world import SETTLE, Client, Service, Store, Verdict, inverted

_STEPS = 200
_MOST_QUIET_STEPS = 100_000


def run(seed: int, make: type[CatchUp] = CatchUp, *, acknowledges_first: bool = False) -> Verdict:
    """Run one schedule, let everything come to rest, and compare what was handled with what was posted."""
    random = Random(seed)  # noqa: S311 - a schedule can be run again
    service = Service(
        random,
        cap=random.choice([1000, 1000, 25, 20, 7]),
        lag=random.choice([0.0, 0.0, 2.0, SETTLE * 0.9]),
        is_stamped=random.random() < 0.8,
        duplicates=random.choice([0.0, 0.1]),
        reorders=random.choice([0.0, 0.0, 0.2]),
        bodyless=random.choice([0.0, 0.0, 0.3]),
        lies=random.choice([0.0, 0.0, 0.3]),
        chats_a_page=random.choice([1000, 3, 2, 1]),
        fails=random.choice([0.0, 0.03, 0.2]),
    )
    for _ in range(random.randint(1, 4)):
        key = service.add_chat()
        for _ in range(random.choice([0, 1, 3, 30])):
            service.post(key)
    service.now += 100
    store = Store()
    handled: Counter[str] = Counter()
    may_be_twice: set[str] = set()
    order: list[str] = []
    room = random.choice([10**9, 10**9, 10])
    has_kills = room == 10**9  # a store without room is one in memory

    def start() -> Client:
        return Client(
            service, store, make, handled, may_be_twice, order, room, acknowledges_first=acknowledges_first
        )

    client = start()
    if not service.is_stamped:
        # Without stamps nothing tells what was sent before the baseline was read.
        _come_to_rest(random, service, client)
    started = int(service.now) + 1
    for _ in range(_STEPS):
        client = _step(random, service, client, start if has_kills else None)
    is_settled = _come_to_rest(random, service, client)
    kept = [post for posts in service.posts.values() for post in posts if post.at > started]
    lost = [post.id for post in kept if not post.is_deleted and not handled[f"message/{post.id}"]]
    twice = [event_id for event_id, count in handled.items() if count > 1 and event_id not in may_be_twice]
    disordered = [
        pair for posts in service.posts.values() for pair in inverted(order, posts, service.inversions)
    ]
    return Verdict(lost, twice, disordered, not is_settled)


def _step(  # noqa: PLR0912, C901 - one branch for each thing that can happen
    random: Random, service: Service, client: Client, restarted: Callable[[], Client] | None
) -> Client:
    happens = random.random()
    if happens < 0.12:
        key = random.choice(list(service.posts))
        for _ in range(random.choice([1, 1, 1, 2, 3, 30])):
            service.post(key)
    elif happens < 0.14:
        posts = [post for some in service.posts.values() for post in some]
        if posts:
            random.choice(posts[-30:]).is_deleted = True
    elif happens < 0.15:
        service.add_chat()
    elif happens < 0.17:
        if client.is_connected:
            client.drop()
    elif happens < 0.25:
        if not client.is_connected:
            client.connect()
    elif happens < 0.40:
        if service.queue:
            client.frame()
    elif happens < 0.47:
        if len(client.jobs) < 4:
            client.start_job()
    elif happens < 0.70:
        if client.jobs:
            client.work(random.choice(client.jobs))
    elif happens < 0.80:
        if client.pending:
            client.write()
    elif happens < 0.93:
        client.consume()
    elif happens < 0.98:
        service.now += random.choice([0.1, 1.0, 3.0, 6.0])
    elif happens < 0.99 and restarted is not None:
        client.killed()
        return restarted()
    service.now += 0.01
    return client


def _come_to_rest(random: Random, service: Service, client: Client) -> bool:
    """Let the connection hold, and everything be read, written and handled."""
    # With many failures, a chat of many pages would never be read in one go.
    service.fails = min(service.fails, 0.03)
    for _ in range(_MOST_QUIET_STEPS):
        if not client.is_connected:
            client.connect()
        while service.queue:
            client.frame()
        while client.pending:
            client.write()
        if client.running is not None or any(state == "new" for state in client.store.state.values()):
            client.consume()
            continue
        if client.jobs:
            client.work(random.choice(client.jobs))
        elif not client.core.is_settled:
            if not client.start_job():
                service.now += 0.5
        else:
            return True
        service.now += 0.01
    return False
