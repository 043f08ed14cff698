"""Writes the tables that `speechprompt train` reads, for the two data sets of the SpeechPrompt paper.

    python docs/paper_corpora.py speech-commands FOLDER --test-set FOLDER
    python docs/paper_corpora.py fluent FOLDER

Recordings stay where they are; a `metadata.csv` in the folder names them, with label, speaker and part.
"""

import argparse
import csv
import random
import re
import shutil
import wave
from pathlib import Path

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
# Numbers of the label tokens; which number a word has does not matter, as long as it is always the same.
ACTIONS = ("change language", "activate", "deactivate", "increase", "decrease", "bring")
OBJECTS = (
    *("none", "music", "lights", "volume", "heat", "lamp", "newspaper", "juice", "socks"),
    *("Chinese", "Korean", "English", "German", "shoes"),
)
LOCATIONS = ("none", "kitchen", "bedroom", "washroom")


def speech_commands(folder: Path, test_set: Path, unknown: float, seed: int) -> list[dict[str, str]]:
    """Rows of Speech Commands v0.01: ten words, the other words as `_unknown_`, pieces of noise as `_silence_`.

    The part of a recording is what `validation_list.txt` and `testing_list.txt` say; recordings of the latter are left
    out, as the test set is an archive of its own, which is copied to `test_set` in the folder.
    """
    lists = {name: set((folder / f"{name}_list.txt").read_text().split()) for name in ("validation", "testing")}
    draw = random.Random(seed)
    rows = []
    for path in sorted(folder.glob("[a-z]*/*.wav")):
        word, name = path.parent.name, path.relative_to(folder).as_posix()
        if name in lists["testing"] or (word not in WORDS and draw.random() >= unknown):
            continue
        part = "validation" if name in lists["validation"] else "train"
        label = word if word in WORDS else UNKNOWN
        rows.append({"file_name": name, "label": label, "speaker": speaker_of(path), "split": part})
    for index, piece in enumerate(noise_pieces(folder, draw)):
        part = "train" if index % 10 else "validation"
        rows.append({"file_name": piece, "label": SILENCE, "speaker": piece, "split": part})
    for path in sorted(test_set.glob("*/*.wav")):
        copied = folder / "test_set" / path.parent.name / path.name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)
        name, label = copied.relative_to(folder).as_posix(), path.parent.name
        rows.append({"file_name": name, "label": label, "speaker": speaker_of(path), "split": "test"})
    return rows


def speaker_of(path: Path) -> str:
    """The speaker in a recording's name; noise has none, and counts as one of its own."""
    found = re.search(r"([0-9a-f]{8})_nohash_", path.name)
    return found[1] if found else path.name


def noise_pieces(folder: Path, draw: random.Random, number: int = 2000) -> list[str]:
    """Pieces of one second, written below `silence`; their names."""
    sources = sorted((folder / NOISE).glob("*.wav"))
    (folder / "silence").mkdir(exist_ok=True)
    names = []
    for index in range(number if sources else 0):
        with wave.open(str(sources[index % len(sources)])) as source:
            rate = source.getframerate()
            source.setpos(draw.randrange(max(1, source.getnframes() - rate)))
            content = source.readframes(rate)
            names.append(f"silence/{index:05d}.wav")
            with wave.open(str(folder / names[-1]), "wb") as piece:
                piece.setparams(source.getparams())
                piece.writeframes(content)
    return names


def fluent(folder: Path) -> list[dict[str, str]]:
    """Rows of Fluent Speech Commands: the three label tokens of each utterance as numbers."""
    rows = []
    for name, part in (("train", "train"), ("valid", "validation"), ("test", "test")):
        with open(folder / "data" / f"{name}_data.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.append(
                    {
                        "file_name": row["path"],
                        "action_id": str(ACTIONS.index(row["action"])),
                        "object_id": str(6 + OBJECTS.index(row["object"])),
                        "location_id": str(20 + LOCATIONS.index(row["location"])),
                        "speaker": row["speakerId"],
                        "split": part,
                    }
                )
    return rows


def main() -> None:
    """Write `metadata.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=("speech-commands", "fluent"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--test-set", type=Path, help="speech-commands: the unpacked archive of the test set")
    parser.add_argument("--unknown", type=float, default=0.1, help="share of the other words that is used")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.corpus == "fluent":
        rows = fluent(given.folder)
    elif given.test_set is None:
        parser.error("speech-commands needs --test-set")
    else:
        rows = speech_commands(given.folder, given.test_set, given.unknown, given.seed)
    with open(given.folder / "metadata.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    print(f"{len(rows)} rows in {given.folder / 'metadata.csv'}")


if __name__ == "__main__":
    main()
