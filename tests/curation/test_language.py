from __future__ import annotations

import subprocess
import sys

import pytest

from curation.language import flag_languages

ENGLISH = [
    "Blue jay bird call from forest edge",
    "A flock of geese honking",
    "Footsteps in heels (x9).",
    "A door is opening.",
    "Two presses on a pneumatic horn.",
    "Laughing Gulls a #3 or Larus Atricilla recorded near water.",
    "A note from Mbira, Sanza, Kalimba, etc. In African idiophone instrument.",
    "Goats bleat nearby",
    "HEAVY RAIN ON A TIN ROOF WITH SOME THUNDER",
    "5 4 3 2 1 Go. 440 Hz. 20 cm. x2",
    "http://example.org/sounds/2083.html?type=wav",
    "1234567890 1234567890",
    "🐕🐕🐕🐕🐕🐕",
    "La la la la la",
    "",
]
FOREIGN = [
    ("fr", "Une cloche d'église sonne au loin."),
    ("fr", "Bruit de pas sur le gravier."),
    ("de", "Die Kirchenglocke läutet in der Ferne."),
    ("es", "La campana de la iglesia suena a lo lejos."),
    ("it", "Pioggia su un tetto di lamiera."),
    ("nl", "De kerkklok luidt in de verte."),
    ("pl", "Dzwon kościelny bije w oddali."),
    ("ru", "Дождь по железной крыше."),
    ("ja", "遠くで教会の鐘が鳴る。"),
    ("zh", "远处教堂的钟声响起。"),
    ("ko", "멀리서 교회 종이 울린다."),
    ("ar", "جرس الكنيسة يدق من بعيد."),
]


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_not_flagged(text):
    assert flag_languages({"a-1": text}) == []


@pytest.mark.parametrize(("language", "text"), FOREIGN)
def test_another_language_is_flagged_and_named(language, text):
    [flag] = flag_languages({"a-1": text})
    assert (flag.clip_id, flag.language, flag.detail) == ("a-1", language, text)
    assert 0.99 <= flag.probability <= 1


def test_one_sentence_is_enough():
    [flag] = flag_languages({"a-1": "Sound of a man. Le vent souffle dans les arbres. Great for films."})
    assert (flag.language, flag.detail) == ("fr", "Le vent souffle dans les arbres.")
    [flag] = flag_languages({"a-1": "a dog barks\nun chien aboie derrière une clôture\na dog barks twice"})
    assert flag.detail == "un chien aboie derrière une clôture"


def test_short_sentences_are_judged_together():
    assert flag_languages({"a-1": "Le vent."}) == []
    assert flag_languages({"a-1": "Le vent. La pluie. Les arbres."})[0].language == "fr"


def test_flags_are_in_the_order_of_clip_ids():
    texts = {"b-2": FOREIGN[0][1], "a-1": FOREIGN[2][1], "a-0": "A dog barks at the door."}
    assert [flag.clip_id for flag in flag_languages(texts)] == ["a-1", "b-2"]


def test_hostile_texts_raise_nothing():
    texts = {"a-1": "x" * 10**6, "a-2": "\ud800" * 50, "a-3": "\x00" * 50, "a-4": ". " * 10**6, "a-5": "\n" * 100}
    assert flag_languages(texts) == []


def test_a_long_sentence_is_cut_in_the_flag():
    [flag] = flag_languages({"a-1": "le vent souffle dans les arbres et la pluie tombe sur le toit " * 20})
    assert len(flag.detail) == 200


def test_the_model_is_not_loaded_before_it_is_needed():
    code = "import curation.language, sys; sys.exit('py3langid' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
