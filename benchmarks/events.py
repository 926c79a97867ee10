"""What it costs to make an event of a frame's text, and to write an event for an inbox and read it again.

CPU in µs, the best of five rounds, next to `orjson.loads` of the same text alone.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from time import process_time

import orjson

from healthmsg.codec import encode
from healthmsg.events import Event, event_from_dict, event_of_frame

ROUNDS, CALLS = 5, 30_000
NOW = datetime.now(UTC)
TEXT = "Goedemorgen, hoe gaat het vandaag met u? Heeft u de bloeddruk al gemeten, en was die beter dan eerst?"
ORDINARY: dict[str, object] = {
    "conversation_id": "b1b6c7e0-1d5c-4a9e-8f6a-0c8e4b0f6a11",
    "message_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "user_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "body": TEXT[:100],
    "attachments": [],
    "mentions": [],
}
FILE = {
    "id": "9b1e4f70-26cd-4e83-a5d8-0c8e4b0f6a11",
    "name": "wond.png",
    "size": 123_456,
    "mime": "image/png",
}
PERSON = {
    "id": "5f0d6c1e-8a44-4b39-9c27-0c8e4b0f6a11",
    "type": "user",
    "first_name": "Marieke",
    "active": True,
}


def frame(name: str, data: Mapping[str, object]) -> str:
    """Write a frame as the gateway sends it."""
    return json.dumps({"event": name, "data": data})


def read(text: str) -> object:
    """Do what is done from a frame's text to its event."""
    document = orjson.loads(text)
    return event_of_frame(document["event"], document["data"], me="u-me", now=NOW)


def cost(call: Callable[[], object]) -> float:
    """Return the CPU of one call in µs."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = process_time()
        for _ in range(CALLS):
            call()
        best = min(best, process_time() - start)
    return best / CALLS * 1e6


def main() -> None:
    """Measure and print."""
    of_many_chats = cycle(
        frame(
            "conversation_new_message",
            ORDINARY | {"conversation_id": f"b1b6c7e0-1d5c-4a9e-8f6a-{number:012x}"},
        )
        for number in range(5_000)
    )
    frames = {
        "an ordinary message": frame("conversation_new_message", ORDINARY),
        "one with a file and a mention": frame(
            "conversation_new_message", ORDINARY | {"attachments": [FILE], "mentions": [PERSON]}
        ),
        "an answer": frame("conversation_question_answer", ORDINARY | {"options": ["ja"]}),
        "typing": frame("typing", {"conversation_id": ORDINARY["conversation_id"], "user_id": "u1"}),
    }
    print("                                 loads  loads and event_of_frame")
    for label, text in frames.items():
        print(f"{label:31} {cost(partial(orjson.loads, text)):6.2f}  {cost(partial(read, text)):6.2f}")
    print(f"{'messages of 5,000 chats in turn':38}  {cost(lambda: read(next(of_many_chats))):6.2f}")
    event = event_of_frame("conversation_new_message", ORDINARY, me="u-me", now=NOW)
    if not isinstance(event, Event):
        raise SystemExit("the frame could not be read")
    written = event.to_dict()
    print(f"\nencode(event)          {cost(lambda: encode(event)):6.2f}")
    print(f"event.to_dict()        {cost(event.to_dict):6.2f}")
    print(f"event_from_dict(dict)  {cost(lambda: event_from_dict(written)):6.2f}")


if __name__ == "__main__":
    main()
