"""Sample data: a made-up Dutch care organisation, its people, its patients and what they wrote."""

from typing import Final

from healthmsg.sandbox.records import PROVIDERS, Company, Person, StoredChat
from healthmsg.sandbox.store import Store

_COLLEAGUES: Final = (
    ("Marieke", "van den Berg", "Wijkverpleegkundige"),
    ("Joost", "Hendriks", "Huisarts"),
    ("Fatima", "El Amrani", "Verpleegkundig specialist"),
    ("Sanne", "de Vries", "Fysiotherapeut"),
    ("Daan", "Bakker", "Apotheker"),
    ("Noor", "Jansen", "Doktersassistent"),
    ("Ömer", "Yıldız", "Internist"),  # noqa: RUF001 - a Turkish name
    ("Lieke", "Smits", "Planner"),
)
_PATIENTS: Final = (
    ("José", "Martínez", "José Martínez 1961"),
    ("Zoë", "Mulder", "patiënt 1002"),
    ("André", "Kuijpers", "patient 7"),
    ("Anneke", "Visser", "ward 3/e"),
    ("Renée", "Schouten", "kamer 12?bed=2#raam"),
    ("Willem", "'t Hart", "100% 't Hart"),
    ("Chloë", "van Dijk", None),
    ("Thijs", "Koning", None),
    ("Aïsha", "Benali", None),
    ("Gerrit", "de Boer", None),
    ("Björn", "Peeters", None),
    ("Truus", "Willems", None),
    ("Mātīss", "Bērziņš", None),
    ("Hélène", "Dubois", None),
)
_TALK: Final = (
    "Goedemorgen, hoe gaat het vandaag met u?",
    "Goedemorgen! Iets beter, ik heb goed geslapen.",
    "Fijn om te horen. Heeft u de bloeddruk al gemeten?",
    "Ja: 138 over 86.",
    "Dat is keurig. Meet u morgenochtend nog een keer, vóór het ontbijt?",
    "Dat doe ik. Moet ik de tabletten van 5 mg blijven nemen?",
    "Ja, één per dag, bij het eten. Heeft u er nog genoeg?",
    "Nog voor een dag of vier.",
    "Dan zet ik een herhaalrecept klaar bij de apotheek.",
    "Dank u wel! 🙏",
    "Uw afspraak is bevestigd: dinsdag om 10:15 uur.",
    "Ik zal er zijn.",
)
_GROUPS: Final = (
    ("Wijkteam Noord", "wijkteam noord/ochtend"),
    ("MDO dinsdag", None),
    ("Overdracht nachtdienst", "overdracht 24/7"),
    ("Medicatieveiligheid", None),
)
_HANDOVER: Final = (
    "Goedemorgen allemaal, de planning voor vandaag staat klaar.",
    "Dank je. Wie neemt de ronde van half elf?",
    "Die doe ik wel, ik ben toch in de buurt.",
    "Mevrouw Visser heeft gevraagd of iemand haar steunkousen wil nakijken.",
    "Genoteerd. Ik kijk er meteen naar.",
    "De nieuwe voorraad verbandmiddelen is binnen.",
    "Vergeten jullie de scholing van donderdag niet?",
    "Ik sluit later aan, eerst nog een huisbezoek.",
)
# A complete file of the smallest size: one white dot.
_PICTURE: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63f80f00010101001bb6ee560000000049454e44ae426082"
)


def add_main_user(store: Store) -> Person:
    """Add the company and the main user, a professional; every sandbox has these."""
    company = store.add_company("Zorggroep De Linde")
    return _add_colleague(store, company, *_COLLEAGUES[0])


def add_sample_data(store: Store, main_user: Person) -> None:
    """Add colleagues, patients, conversations, group chats, messages and a file."""
    company = main_user.company
    if company is None:
        raise ValueError("the main user must be a professional")
    colleagues = [main_user, *(_add_colleague(store, company, *row) for row in _COLLEAGUES[1:])]
    patients = [store.add_person(first, last, aux_id=aux_id) for first, last, aux_id in _PATIENTS]
    for count, patient in enumerate(patients, start=2):
        chat = store.start_conversation(main_user, patient)
        _talk(store, chat, _TALK, count * 4)
    for number, (subject, aux_id) in enumerate(_GROUPS):
        members = colleagues[1 : 4 + number]
        _talk(store, store.start_group_chat(subject, main_user, members, aux_id=aux_id), _HANDOVER, 24)
    with_file = store.start_conversation(main_user, patients[0])
    name = "wond dag 3 – close-up.png"  # noqa: RUF001 - as people name files
    picture = store.new_file(name, "image/png", _PICTURE)
    store.post(with_file, patients[0], "Zo ziet het er vandaag uit.", files=[picture])
    patients[1].verified_by.append(PROVIDERS[0])


def _add_colleague(store: Store, company: Company, first_name: str, last_name: str, position: str) -> Person:
    user = f"{first_name}.{last_name}".replace(" ", "").encode("ascii", "ignore").decode().lower()
    return store.add_person(
        first_name, last_name, company=company, position=position, email=f"{user}@delinde.example"
    )


def _talk(store: Store, chat: StoredChat, lines: tuple[str, ...], count: int) -> None:
    for number in range(count):
        store.post(chat, chat.members[number % len(chat.members)], lines[number % len(lines)])
