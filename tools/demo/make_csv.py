"""Create `contacts.csv`, the spreadsheet of the demo: `python -m tools.demo.make_csv`.

The file is as untidy as the spreadsheets of customers. Its numbers have prefixes that are not allocated in Australia
(0441, 0442, 0443, 0445, 0446, 0453, 0471), so no number belongs to a person.
"""

import csv
import random
from pathlib import Path

FILE = Path(__file__).with_name("contacts.csv")
ROWS = 1000
_PREFIXES = ("0441", "0442", "0443", "0445", "0446", "0453", "0471")
_FIRST = (
    *("Ana", "Ben", "Chloe", "Dylan", "Eliza", "Finn", "Grace", "Hamish", "Isla", "Jack", "Kira", "Liam", "Mia"),
    *("Noah", "Olivia", "Priya", "Quentin", "Ruby", "Sam", "Tahlia", "Uma", "Vikram", "Willow", "Xavier", "Yasmin"),
    *("Zoe", "Bjørn", "Zoë", "José", "Siobhán", "Đặng", "Łukasz"),
)
_LAST = (
    *("Nguyen", "Smith", "O'Brien", "Papadopoulos", "Singh", "Kelly", "Wang", "Müller", "Rossi", "Brown", "Wilson"),
    *("Taylor", "Jones", "Campbell", "Martin", "Chen", "Anderson", "Thompson", "White", "Harris", "d'Arcy"),
    *("Fernández", "van-der-Berg", "McGregor"),
)
_COMPANIES = ("", "", "", "Bight Coffee", "Gum; Leaf & Co", 'The "Tin" Shed', "Torrens Physio", "Port Noarlunga Surf")
_SPELLINGS = (
    lambda n: n,
    lambda n: f"{n[:4]} {n[4:7]} {n[7:]}",
    lambda n: "+61" + n[1:],
    lambda n: f"+61 {n[1:4]} {n[4:7]} {n[7:]}",
    lambda n: "61" + n[1:],
    lambda n: n[1:],
    lambda n: f"({n[:2]}) {n[2:6]} {n[6:]}",
    lambda n: f"{n[:4]}-{n[4:7]}-{n[7:]}",
)


def rows(chance: random.Random) -> list[list[str]]:
    """Return the rows below the header: first name, last name, phone, company, note."""
    created: list[list[str]] = []
    numbers: list[str] = []
    for index in range(ROWS):
        number = f"{_PREFIXES[index % len(_PREFIXES)]}{index * 7919 % 1_000_000:06d}"
        phone = chance.choice(_SPELLINGS)(number)
        if index % 97 == 50:  # the number of an earlier row, in another spelling
            phone = chance.choice(_SPELLINGS)(chance.choice(numbers))
        elif index % 89 == 40:
            phone = chance.choice(["4.12E+08", "n/a", "", "08 8123 4567", "0441 23", "see notes"])
        else:
            numbers.append(number)
        first, last = chance.choice(_FIRST), chance.choice(_LAST)
        if index % 211 == 5:
            last = f"{last}, Dr"
        created.append([first, last, phone, chance.choice(_COMPANIES), chance.choice(["", "VIP", "called twice"])])
    return created


def main() -> None:
    """Write the file."""
    with FILE.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        writer.writerow(["First Name", "Surname", "Mobile", "Company", "Notes"])
        writer.writerows(rows(random.Random(1788)))
    print(f"{FILE.name}: {ROWS} rows")


if __name__ == "__main__":
    main()
