"""Check digits: what tells an account, card or identity number from any other number of its length."""

_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "PT",
    26: "IS TR",
    27: "FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB PL",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT",
}
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_FISCAL_VALUES = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
"""Of the letters A to Z in odd places; digits count as the first ten letters."""
_VERHOEFF_PRODUCT = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_VERHOEFF_PERMUTATION = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_length(country: str) -> int:
    """Letters of a country's IBANs (SWIFT, "IBAN Registry"); 0 for a country that has none."""
    return next((length for length, countries in _IBAN_COUNTRIES.items() if country in countries.split()), 0)


def iban(compact: str) -> bool:
    """ISO 13616: the number, its head moved to the end and letters as numbers, is 1 modulo 97."""
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1


def spanish_dni(compact: str) -> bool:
    """DNI and NIE: the last letter is the number modulo 23."""
    number = compact[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return compact[-1] == _DNI_LETTERS[int(number) % 23]


def italian_fiscal_code(compact: str) -> bool:
    plain = (int(letter) if letter.isdigit() else ord(letter) - ord("A") for letter in compact[:15])
    values = (value if position % 2 else _FISCAL_VALUES[value] for position, value in enumerate(plain))
    return chr(ord("A") + sum(values) % 26) == compact[15]


def french_nir(compact: str) -> bool:
    """The last two digits are 97 less the number modulo 97; Corsica's departments count as 19 and 18."""
    number = compact[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(compact[13:])


def german_tax_id(digits: str) -> bool:
    """ISO/IEC 7064, MOD 11,10; of the first ten digits one stands two or three times and no digit more often."""
    if digits[0] == "0" or max(digits[:10].count(digit) for digit in set(digits[:10])) not in (2, 3):
        return False
    product = 10
    for digit in digits[:10]:
        product = (((int(digit) + product) % 10 or 10) * 2) % 11
    return (11 - product) % 10 == int(digits[10])


def polish_pesel(digits: str) -> bool:
    month, day = int(digits[2:4]) % 20, int(digits[4:6])
    weighed = sum(int(digit) * weight for digit, weight in zip(digits, (1, 3, 7, 9) * 2 + (1, 3, 1), strict=True))
    return 1 <= month <= 12 and 1 <= day <= 31 and weighed % 10 == 0


def brazilian_cpf(digits: str) -> bool:
    if len(set(digits)) == 1:
        return False
    for length in (9, 10):
        weighed = sum(int(digit) * weight for digit, weight in zip(digits, range(length + 1, 1, -1), strict=False))
        if weighed * 10 % 11 % 10 != int(digits[length]):
            return False
    return True


def indian_aadhaar(digits: str) -> bool:
    """Verhoeff's algorithm (1969)."""
    check = 0
    for position, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_PRODUCT[check][int(_VERHOEFF_PERMUTATION[position % 8][int(digit)])])
    return check == 0


def american_ssn(digits: str) -> bool:
    """Numbers that the Social Security Administration has not given out and will not are none."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
