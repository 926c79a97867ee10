"""The duty bot: it calls one after the other until one goes, also when it dies meanwhile."""

import pytest
from attrs import frozen

from examples.on_call.bot import set_up
from examples.on_call.roster import Person, Roster
from healthmsg.bot import Bot
from healthmsg.bot.testing import BotTest, Group, Patient, StartBot


@frozen
class Team:
    """The people, and their group chat."""

    an: Patient
    bo: Patient
    group: Group

    @property
    def sees(self) -> list[str]:
        """What the bot has said in the group."""
        return [seen.body for seen in self.group.sees]


@pytest.fixture
def announced() -> list[str]:
    """Return where shifts are announced: empty until a test has a group."""
    return []


@pytest.fixture
def roster() -> Roster:
    """Return a roster, to be filled."""
    return Roster(day=[], night=[])


@pytest.fixture
async def bot_test(healthmsg_bot: StartBot, roster: Roster, announced: list[str]) -> BotTest:
    """Run the bot."""

    def in_group(bot: Bot) -> None:
        set_up(bot, *announced)

    return await healthmsg_bot(in_group, provide=[roster])


@pytest.fixture
async def team(bot_test: BotTest, roster: Roster) -> Team:
    """Put An, who has the day, and Bo, who is called after her, into a group."""
    an, bo = bot_test.colleague("An"), bot_test.colleague("Bo")
    people = [Person(an.id, "An"), Person(bo.id, "Bo")]
    roster.day.extend(people)
    roster.night.extend(reversed(people))
    return Team(an, bo, bot_test.group("Dienst", an, bo))


async def test_the_first_one_goes(bot_test: BotTest, team: Team) -> None:
    await team.bo.says(f"{bot_test.mention} valpartij op kamer 12", group=team.group)
    assert team.sees[-1].endswith("valpartij op kamer 12")

    await team.an.presses("Ik ga", group=team.group)

    assert team.sees[-1] == "An gaat."


async def test_after_five_minutes_the_next_one_is_called_also_after_a_restart(
    bot_test: BotTest, team: Team
) -> None:
    await team.bo.says(f"{bot_test.mention} valpartij", group=team.group)
    await bot_test.advance(minutes=3)
    await bot_test.kill_and_restart()
    assert len(team.sees) == 1

    await bot_test.advance(minutes=2)

    assert team.sees[-2] == "An antwoordt niet."
    await team.bo.presses("Ik ga", of=team.sees[-1], group=team.group)
    assert team.sees[-1] == "Bo gaat."


async def test_when_no_one_goes_the_backup_is_named(bot_test: BotTest, team: Team, roster: Roster) -> None:
    await team.bo.says(f"{bot_test.mention} valpartij", group=team.group)
    await team.an.presses("Ik kan niet", group=team.group)
    await bot_test.advance(minutes=5)

    assert team.sees[-1] == f"Er gaat nog niemand. Bel {roster.backup}."


async def test_a_call_can_be_withdrawn(bot_test: BotTest, team: Team) -> None:
    await team.bo.says(f"{bot_test.mention} valpartij", group=team.group)

    await team.bo.says("ingetrokken", group=team.group)

    assert team.sees[-1] == "De oproep is ingetrokken."


async def test_each_shift_is_announced_once_also_after_a_night_down(
    bot_test: BotTest, team: Team, announced: list[str]
) -> None:
    announced.append(team.group.address)
    await bot_test.kill_and_restart()

    await bot_test.advance(days=1)
    assert team.sees == ["Vanaf nu heeft Bo, dan An dienst.", "Vanaf nu heeft An, dan Bo dienst."]
    await bot_test.kill_and_restart()

    assert len(team.sees) == 2
