import pytest

from healthmsg.pipeline import fold
from healthmsg.pipeline.request import Request, Response, Send, Step
from tests.servers import a_request, response


def noting(name: str, order: list[str]) -> Step:
    async def step(request: Request, proceed: Send) -> Response:
        order.append(f"{name} in")
        try:
            return await proceed(request)
        finally:
            order.append(f"{name} out")

    return step


async def test_the_first_step_is_the_outermost() -> None:
    order: list[str] = []

    async def wire(_: Request) -> Response:
        order.append("wire")
        return response()

    await fold([noting("a", order), noting("b", order)], wire)(a_request())
    assert order == ["a in", "b in", "wire", "b out", "a out"]


async def test_without_steps_there_is_the_wire() -> None:
    async def wire(_: Request) -> Response:
        return response(204)

    assert (await fold([], wire)(a_request())).status == 204
    assert fold([], wire) is wire


async def test_a_step_may_proceed_twice_or_not_at_all() -> None:
    calls: list[Request] = []

    async def wire(request: Request) -> Response:
        calls.append(request)
        return response()

    async def twice(request: Request, proceed: Send) -> Response:
        await proceed(request)
        return await proceed(request)

    async def never(_: Request, __: Send) -> Response:
        raise ZeroDivisionError

    await fold([twice, twice], wire)(a_request())
    assert len(calls) == 4
    with pytest.raises(ZeroDivisionError):
        await fold([never, twice], wire)(a_request())
    assert len(calls) == 4
