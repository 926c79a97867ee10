"""What several files of these tests use."""

from typing import Any

from attrs import frozen

from healthmsg.sandbox import SandboxFile
from tests.caller import Answer, Caller

HELLO = {"body": "Hallo"}
CONTENT = bytes(range(256)) * 40


@frozen
class Linked:
    """A file with its link and cookie."""

    call: Caller
    id: str
    url: str
    cookie: str

    async def __call__(self, method: str = "GET", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call(method, self.url, headers={"Cookie": self.cookie, **named})


async def linked(call: Caller, content: bytes | int = CONTENT, name: str = "scan.png") -> Linked:
    chat = call.sandbox.add_conversation()
    file_id = call.sandbox.say(None, chat, files=[SandboxFile(name, content)]).attachments[0].id
    link = await call("GET", f"conversations/{chat}/attachments/{file_id}")
    cookie = "; ".join(f"{name}={value}" for name, value in link.cookies.items())
    return Linked(call, file_id, link.document["link"], cookie)


@frozen
class Talk:
    """A conversation of the main user with a patient."""

    call: Caller
    path: str
    patient: str

    async def read(self, below: str) -> Any:
        return (await self.call("GET", f"users/{self.patient}/{below}")).document

    async def ask_for(self, provider_id: object, user_id: object = None, path: str | None = None) -> Any:
        body = {"user_id": user_id or self.patient, "provider_id": provider_id}
        return await self.call("POST", f"{path or self.path}/verification", json=body)

    async def payload(self, message_id: str) -> Any:
        return (await self.call("GET", f"{self.path}/messages/{message_id}")).document["payload"]
