"""The rules of `ner`: what each label takes in, and what it must not fall for."""
# ruff: noqa: E501, RUF001 - rows of a table; typographic dashes, quotes and digits are what is tested

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers._ner.merge import merge
from handlers._ner.numbers import as_text, parse_number
from handlers._ner.rules import FINDERS, find_all
from handlers._ner.spans import RULE_LABELS, Options, Span
from handlers._ner.validate import check_phone, iban_checksum_ok

ANY = Options()


def found(text: str, options: Options = ANY) -> list[tuple[str, str]]:
    """The (label, text) of every entity, in order."""
    return [(span.label, text[span.start : span.end]) for span in spans(text, options)]


def spans(text: str, options: Options = ANY) -> list[Span]:
    return merge(find_all(text, options), len(text))


def norm(text: str, options: Options = ANY):
    """The norm of the only entity in `text`."""
    (span,) = spans(text, options)
    return span.norm


# (a text, the one entity in it, its norm)
ENTITIES = {
    "EMAIL": [
        (
            "write to jane.doe+x@mail.example.co.uk.",
            "jane.doe+x@mail.example.co.uk",
            {"email": "jane.doe+x@mail.example.co.uk"},
        ),
        ("mail 'bob@Example.COM' now", "bob@Example.COM", {"email": "bob@example.com"}),
        (
            "by e-mail at accounts @northwind.example",
            "accounts @northwind.example",
            {"email": "accounts@northwind.example"},
        ),
        ("<accounts@\nnorthwind.example>", "accounts@\nnorthwind.example", {"email": "accounts@northwind.example"}),
        ("büro@müller.de", "büro@müller.de", {"email": "büro@müller.de"}),
    ],
    "URL": [
        (
            "(see https://a.example/x_(y)).",
            "https://a.example/x_(y)",
            {"url": "https://a.example/x_(y)", "host": "a.example"},
        ),
        ("at www.Foo.de/bar, where", "www.Foo.de/bar", {"url": "www.Foo.de/bar", "host": "www.foo.de"}),
        ("visit acme.com today", "acme.com", {"url": "acme.com", "host": "acme.com"}),
        (
            "“https://x.example/a?b=1”",
            "https://x.example/a?b=1",
            {"url": "https://x.example/a?b=1", "host": "x.example"},
        ),
        (
            "[docs](https://x.example/a)](https",
            "https://x.example/a",
            {"url": "https://x.example/a", "host": "x.example"},
        ),
        ("https: //x.example", "https: //x.example", {"url": "https://x.example", "host": "x.example"}),
    ],
    "IBAN": [
        (
            "to DE89 3704 0044 0532 0130 00 at",
            "DE89 3704 0044 0532 0130 00",
            {"iban": "DE89370400440532013000", "country": "DE"},
        ),
        ("NO9386011117947", "NO9386011117947", {"iban": "NO9386011117947", "country": "NO"}),
        (
            "FR76 3000 6000\n0112 3456 7890 189.",
            "FR76 3000 6000\n0112 3456 7890 189",
            {"iban": "FR7630006000011234567890189", "country": "FR"},
        ),
    ],
    "MONEY": [
        ("EUR 4,150.00", "EUR 4,150.00", {"amount": "4150.00", "currency": "EUR"}),
        ("für 4.150,00 € netto", "4.150,00 €", {"amount": "4150.00", "currency": "EUR"}),
        ("CHF 3`949.75", "CHF 3`949.75", {"amount": "3949.75", "currency": "CHF"}),
        ("CHF 3’949.75", "CHF 3’949.75", {"amount": "3949.75", "currency": "CHF"}),
        ("about $1.5 million.", "$1.5 million", {"amount": "1500000", "currency": "$"}),
        ("US$ 12bn", "US$ 12bn", {"amount": "12000000000", "currency": "USD"}),
        ("1 234 567,89 €", "1 234 567,89 €", {"amount": "1234567.89", "currency": "EUR"}),
        ("₹1,23,456.00", "₹1,23,456.00", {"amount": "123456.00", "currency": "INR"}),
        ("loss (-$12.00)", "-$12.00", {"amount": "-12.00", "currency": "$"}),
        ("50,- €", "50,- €", {"amount": "50", "currency": "EUR"}),
        ("five, or 5 million\ndollars", "5 million\ndollars", {"amount": "5000000", "currency": "$"}),
        ("12 500 kr.", "12 500 kr", {"amount": "12500", "currency": "kr"}),
        ("R$ 1.234,56", "R$ 1.234,56", {"amount": "1234.56", "currency": "BRL"}),
        ("EUR 9,037,90", "EUR 9,037,90", {"amount": "9037.90", "currency": "EUR"}),
        ("refund EUR -3,00", "EUR -3,00", {"amount": "-3.00", "currency": "EUR"}),
        ("je Fr. 20.-", "Fr. 20.-", {"amount": "20", "currency": "Fr"}),
        ("SFr. 30", "SFr. 30", {"amount": "30", "currency": "CHF"}),
        ("Rs. 500 only", "Rs. 500", {"amount": "500", "currency": "Rs"}),
        ("1.200,- DM", "1.200,- DM", {"amount": "1200", "currency": "DEM"}),
        ("kr. 500 and", "kr. 500", {"amount": "500", "currency": "kr"}),
        ("EUR 4, 150.00", "EUR 4, 150.00", {"amount": "4150.00", "currency": "EUR"}),
    ],
    "DATE": [
        ("on 14 March 2024", "14 March 2024", {"date": "2024-03-14"}),
        ("Jul 31, 2019", "Jul 31, 2019", {"date": "2019-07-31"}),
        ("of April 20,\n2009 is", "April 20,\n2009", {"date": "2009-04-20"}),
        ("experts of April 20,\n\n2009 is hereby", "April 20,\n\n2009", {"date": "2009-04-20"}),  # double-spaced typing
        ("in late February 2009", "February 2009", {"date": "2009-02"}),
        ("the 3rd day of March, 2024", "3rd day of March, 2024", {"date": "2024-03-03"}),
        ("Monday, 5 May", "5 May", {"date": "--05-05"}),
        ("le 1er mars 2024", "1er mars 2024", {"date": "2024-03-01"}),
        ("am 14. März 2024", "14. März 2024", {"date": "2024-03-14"}),
        ("el 3 de marzo de 2024", "3 de marzo de 2024", {"date": "2024-03-03"}),
        ("dnia 12 marca 2024 r.", "12 marca 2024", {"date": "2024-03-12"}),
        ("12 марта 2024", "12 марта 2024", {"date": "2024-03-12"}),
        ("12–14 March 2024", "12–14 March 2024", {"from": "2024-03-12", "to": "2024-03-14"}),
        ("14-Mar-24", "14-Mar-24", {"date": "2024-03-14"}),
        ("2024-03-14", "2024-03-14", {"date": "2024-03-14"}),
        ("DATED:2/2/09.", "2/2/09", {"date": "2009-02-02"}),
        ("31/12/1969", "31/12/1969", {"date": "1969-12-31"}),
        ("03/04/2024", "03/04/2024", None),
        ("03.04.2024", "03.04.2024", None),
        ("31 February 2024", "31 February 2024", None),
        ("2024年3月14日", "2024年3月14日", {"date": "2024-03-14"}),
    ],
    "TIME": [
        ("03:11 PM(CT)", "03:11 PM(CT)", {"time": "15:11", "zone": "CT"}),
        ("at 5 p.m. sharp", "5 p.m.", {"time": "17:00"}),
        ("12 am", "12 am", {"time": "00:00"}),
        ("um 14.30 Uhr", "14.30 Uhr", {"time": "14:30"}),
        ("à 18h00", "18h00", {"time": "18:00"}),
        ("06:56:47 +0100", "06:56:47 +0100", {"time": "06:56:47", "zone": "+0100"}),
        ("at 9:05", "9:05", {"time": "09:05"}),
        ("between 9:00 and noon", "9:00", {"time": "09:00"}),
        ("23:59:59", "23:59:59", {"time": "23:59:59"}),
    ],
    "PERCENT": [
        ("VAT at 19%", "19%", {"percent": "19"}),
        ("12,5 Prozent", "12,5 Prozent", {"percent": "12.5"}),
        ("3 per cent", "3 per cent", {"percent": "3"}),
        ("5–10 %", "5–10 %", {"from": "5", "to": "10"}),
        ("a fall of −2.5%", "−2.5%", {"percent": "-2.5"}),
    ],
    "PHONE": [
        ("on +44 20 7946 0958 or", "+44 20 7946 0958", {"e164": "+442079460958", "region": "GB"}),
        ("(415) 391-3911", "(415) 391-3911", {"e164": "+14153913911", "region": "US"}),
        ("call us at 415-391-3911", "415-391-3911", {"e164": "+14153913911", "region": "US"}),
        ("+44 (0)161 496 0123", "+44 (0)161 496 0123", {"e164": "+441614960123", "region": "GB"}),
        ("Tel.: 0711 / 22 33 44-0", "0711 / 22 33 44-0", None),
    ],
    "ID": [
        ("invoice INV-88213, which", "INV-88213", {"id": "INV-88213"}),
        ("Our reference: NW-2024-00317", "NW-2024-00317", {"id": "NW-2024-00317"}),
        ("CASE NO.: C 08-02214 SBA", "C 08-02214 SBA", {"id": "C 08-02214 SBA"}),
        ("Docket No. 2017-03-1235", "2017-03-1235", {"id": "2017-03-1235"}),
        ("[Bar No.: 121139]", "121139", {"id": "121139"}),
        ("U.S. Patent No. 7,654,321 claims", "7,654,321", {"id": "7,654,321"}),
        ("Aktenzeichen: 3 C 123/24", "3 C 123/24", {"id": "3 C 123/24"}),
        ("No. 3:08-cv-02214-SBA", "3:08-cv-02214-SBA", {"id": "3:08-cv-02214-SBA"}),
        ("Rechnungsnummer:\nRE-0815", "RE-0815", {"id": "RE-0815"}),
        ("facture n° F-2023-1187 du", "F-2023-1187", {"id": "F-2023-1187"}),
    ],
}


@pytest.mark.parametrize(
    ("label", "text", "entity", "expected"),
    [(label, *case) for label, cases in ENTITIES.items() for case in cases],
    ids=lambda value: None if isinstance(value, dict) else str(value)[:30],
)
def test_each_label_is_found_with_its_norm(label, text, entity, expected):
    assert found(text) == [(label, entity)]
    assert norm(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "we met on us and may march along in June",  # dateparser.search calls "we" a date
        "DATED: January",
        "version 1.2.10 of 3.4.2024.1",
        "31/02/2024",  # no such day, so no date
        "2\nMarch Hares",
        "45-day extension",
        "John 3:16 at a ratio of 4:3 and 1:25",
        "Seite 5 am Ende",
        "room 12 on the 16th Floor, 353 Sacramento Street, 94111",
        "PHP 8 and PEN 15 and 6 Ft tall",
        "ISO-9001, UTF-16 and COVID-19",
        "centrifuge LC-40",
        "records 12,000,000 and claims 1,200",
        "order 12 chairs, file 3 claims, case 5",
        "Exhibit No. 5 and page no. 3",
        "DE89 3704 0044 0532 0130 01",  # the checksum is wrong
        "415-391-3911 and 2017 03 1235 7",  # nothing says that it is a phone
        "meet me @ home, see you @ 5",
        "the end.in the beginning",
        "$ and % and EUR alone, the pair EUR-2024",
        "",
    ],
)
def test_look_alikes_are_left_alone(text):
    assert found(text) == []


def test_docket_number_is_no_phone_even_beside_a_phone():
    assert found("Docket No. 2017-03-1235, tel. 615-741-2395") == [("ID", "2017-03-1235"), ("PHONE", "615-741-2395")]


def test_misread_iban_is_reported_without_norm_when_the_word_iban_stands_before_it():
    (span,) = spans("IBAN: DE89 3704 0044 0532 0130 01")
    assert (span.label, span.norm, span.validated) == ("IBAN", None, False)


def test_table_rows_keep_each_currency_with_its_own_number():
    assert found("tubes, box of 500 12 EUR 38.50 EUR 462.00") == [("MONEY", "EUR 38.50"), ("MONEY", "EUR 462.00")]
    assert found("3 Stk. 38,50 EUR 462,00 EUR") == [("MONEY", "38,50 EUR"), ("MONEY", "462,00 EUR")]


@pytest.mark.parametrize(("order", "date"), [("DMY", "2024-04-03"), ("MDY", "2024-03-04"), (None, None)])
def test_date_order_settles_an_ambiguous_date(order, date):
    assert norm("03/04/2024", Options(date_order=order)) == (date and {"date": date})


def test_date_order_does_not_bend_a_date_that_has_one_reading():
    assert norm("14/03/2024", Options(date_order="MDY")) == {"date": "2024-03-14"}


def test_a_date_behind_a_number_sign_is_an_identifier():
    assert found("Order No. 2024-03-14") == [("ID", "2024-03-14")]


def test_iso_timestamp_is_a_date_and_a_time():
    text = "2024-03-14T10:22:33Z"
    assert found(text) == [("DATE", "2024-03-14"), ("TIME", "10:22:33Z")]
    assert spans(text)[1].norm == {"time": "10:22:33", "zone": "Z"}


def test_lists_of_identifiers_are_taken_apart():
    assert found("Nos. 22-1234, 22-1235 and 22-1301") == [("ID", "22-1234"), ("ID", "22-1235"), ("ID", "22-1301")]


def test_regions_give_national_numbers_their_country():
    assert norm("Tel. 030 901820", Options(regions=("DE",))) == {"e164": "+4930901820", "region": "DE"}
    assert norm("Tel. 030 901820") is None


def test_phone_extension_belongs_to_the_number():
    text = "(312) 555-0199 ext. 12"
    assert found(text) == [("PHONE", text)]
    assert norm(text) == {"e164": "+13125550199", "region": "US", "extension": "12"}


def test_priority_decides_a_disputed_character():
    candidates = [Span("ID", 0, 9, "rule:x"), Span("EMAIL", 5, 12, "rule:x"), Span("PERSON", 0, 3, "model:m")]
    assert [span.label for span in merge(candidates, 12)] == ["PERSON", "EMAIL"]
    assert [*FINDERS] == [*RULE_LABELS]


def test_validated_says_that_more_than_the_pattern_was_checked():
    by_text = {text: spans(text)[0].validated for text in ("EUR 5.00", "$5.00", "03/04/2024", "14 March 2024", "19%")}
    assert by_text == {"EUR 5.00": True, "$5.00": False, "03/04/2024": False, "14 March 2024": True, "19%": False}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1,234.56", "1234.56"),
        ("1.234,56", "1234.56"),
        ("1 234,56", "1234.56"),
        ("1,234", "1234"),
        ("0,125", "0.125"),
        ("1.234.567", "1234567"),
        ("12,34,567.80", "1234567.80"),
        ("1,23.45.67", None),
    ],
)
def test_numbers_are_read_by_their_separators(written, value):
    number = parse_number(written)
    assert (number if number is None else as_text(number)) == value


def test_iban_check_follows_iso_13616():
    assert iban_checksum_ok("GB82WEST12345698765432")
    assert not iban_checksum_ok("GB82WEST12345698765433")
    assert not iban_checksum_ok("GB82WEST1234569876543")
    assert not iban_checksum_ok("ZZ82WEST12345698765432")
    assert not iban_checksum_ok("")


def test_phone_check_tells_valid_from_possible():
    assert check_phone("+44 20 7946 0958", ()).valid
    unassigned = check_phone("+1 555 010 9999", ())
    assert (unassigned.possible, unassigned.valid) == (True, False)


FRAGMENTS = st.sampled_from(
    [text for cases in ENTITIES.values() for text, _entity, _norm in cases]
    + [
        " ",
        "\n",
        "\f",
        "\r\n",
        "-",
        "–",
        "@",
        "No. ",
        "Tel. ",
        "(",
        ")",
        "+",
        "EUR ",
        "€",
        "%",
        "é",
        "\u0301",
        "𝟙",
        "٣",
        "²",
    ]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(st.one_of(FRAGMENTS, st.text(max_size=6)), max_size=12).map("".join))


@settings(max_examples=300)
@given(TEXTS, st.sampled_from([None, "DMY", "MDY"]))
def test_entities_lie_in_the_text_do_not_overlap_and_hold_no_outer_space(text, order):
    entities = spans(text, Options(regions=("DE", "US"), date_order=order))
    end = 0
    for entity in entities:
        assert end <= entity.start < entity.end <= len(text)
        end = entity.end
        assert text[entity.start : entity.end] == text[entity.start : entity.end].strip()
        assert "\f" not in text[entity.start : entity.end]
        assert entity.label in RULE_LABELS


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "1 ", "1,", "1.", "a.", "a@", "+1 ", "(1)", "-", " ", "\n", "A-1-", "No. 1-", "EUR 1 ", "www.a", "12 ab 2024 ",
     "tel 123 4", "DE89 ", "http://a.b)", "order no. A1, "],
)  # fmt: skip
def test_time_is_proportional_to_the_length_of_hostile_text(unit):
    # 16 times the text in under 60 times the time: a quadratic pattern would take 256 times as long.
    short, long = (unit * (size // len(unit)) for size in (4_000, 64_000))
    spans(short)  # compiles and caches what the first text needs
    assert _seconds(long) < 60 * max(_seconds(short), 0.002)


def _seconds(text: str) -> float:
    started = time.process_time()
    spans(text)
    return time.process_time() - started


def test_source_names_the_rule():
    assert all(re.fullmatch(r"rule:[a-z_]+", span.source) for span in spans("EUR 5.00 on 14 March 2024, INV-88213"))
