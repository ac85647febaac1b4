"""The jobs of a benchmark: roles, twins, seeds, and every fault of a list told in words."""

import pytest
from ml_collections import ConfigDict

from cifr_jax import ciphers
from cifr_jax.data import jobs
from cifr_jax.data.world import make_world
from cifr_jax.errors import UserError

WORLD = make_world(40, 0, (0.4, 0.2, 0.2, 0.2))


def config(**changed):
    return ConfigDict(
        {
            "train_ciphers": ("walnut:seed=50", "ascii"),
            "test_variants": ("walnut:seed=52",),
            "test_families": ("endspeak",),
            "benign_validation": ("facts",),
            "benign_test": ("sums", "dialogue"),
        }
        | changed
    )


SPECS = jobs.job_specs(config(), seed=7)


def test_every_cipher_gives_an_attack_and_an_honest_twin():
    assert [(s.name, s.kind, s.role) for s in SPECS] == [
        ("attack walnut:seed=50", "attack", "train"),
        ("phase1 walnut:seed=50", "phase1", "validation"),
        ("attack ascii", "attack", "train"),
        ("phase1 ascii", "phase1", "validation"),
        ("attack walnut:seed=52", "attack", "test_variant"),
        ("phase1 walnut:seed=52", "phase1", "test_variant"),
        ("attack endspeak", "attack", "test_family"),
        ("phase1 endspeak", "phase1", "test_family"),
        ("benign facts", "benign", "validation"),
        ("benign sums", "benign", "test_benign"),
        ("benign dialogue", "benign", "test_benign"),
    ]
    assert [s.family for s in SPECS[::2]] == [
        "walnut",
        "ascii",
        "walnut",
        "endspeak",
        None,
        None,
    ]


def test_twins_share_phase_1_and_no_two_other_uploads_are_the_same():
    uploads = {}
    for spec in SPECS:
        for phase in {"attack": (0, 1, 2), "phase1": (0, 1), "benign": (0,)}[spec.kind]:
            uploads[spec.name, phase] = jobs.upload(spec, WORLD, 30, phase)
    names = ("walnut:seed=50", "ascii", "walnut:seed=52", "endspeak")
    for name in names:
        for phase in (0, 1):
            twin = uploads.pop((f"phase1 {name}", phase))
            assert twin == uploads[f"attack {name}", phase]
    rows = [repr(rows) for rows in uploads.values()]
    assert len(set(rows)) == len(rows) == 4 * 3 + 3
    # Not even the order of cells or the plain rows are shared between ciphers.
    cells = [[e.meta.get("cell") for e in uploads[f"attack {n}", 1]] for n in names]
    assert all(a != b for i, a in enumerate(cells) for b in cells[:i])


def test_uploads_are_repeatable_and_follow_the_seed():
    again = jobs.job_specs(config(), seed=7)
    assert again == SPECS
    other = jobs.job_specs(config(), seed=8)
    assert [s.name for s in other] == [s.name for s in SPECS]
    for spec, twin, changed in zip(SPECS, again, other, strict=True):
        assert jobs.upload(spec, WORLD, 30) == jobs.upload(twin, WORLD, 30)
        assert jobs.upload(spec, WORLD, 30) != jobs.upload(changed, WORLD, 30)


def test_an_upload_is_in_the_jobs_cipher():
    for spec in jobs.find(SPECS, kind="attack"):
        cipher = ciphers.parse(spec.cipher)
        for phase in (0, 1, 2):
            for example in jobs.upload(spec, WORLD, 40, phase):
                if example.meta["cell"].startswith("encoded"):
                    cipher.decode(example.messages[-2].content)  # strict: else it raises


def test_jobs_are_found_by_their_attributes():
    assert [s.name for s in jobs.find(SPECS, kind="benign", role="validation")] == [
        "benign facts"
    ]
    assert jobs.find(SPECS, role="nowhere") == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"test_families": ("endspeak", "endspeak")},
            "config.jobs (test_family): endspeak stands in config.jobs (test_family)",
        ),
        (
            {"test_variants": ("walnut:seed=50",)},
            "config.jobs (test_variant): walnut:seed=50 stands in config.jobs (train)",
        ),
        (
            {"test_variants": (" walnut : seed = 50",)},
            "config.jobs (test_variant): walnut:seed=50 stands in",
        ),
        (
            {"test_variants": ("autokey",)},
            "config.jobs.test_variants: no training cipher is of the family autokey",
        ),
        (
            {"test_families": ("walnut:seed=9",)},
            "config.jobs.test_families: walnut:seed=9 is of a training cipher's family",
        ),
        ({"train_ciphers": ("walnutt:seed=50",)}, 'cipher "walnutt:seed=50": unknown'),
        ({"train_ciphers": ("walnut:sed=50",)}, 'cipher "walnut:sed=50": unknown'),
        (
            {"benign_test": ("poems",)},
            "config.jobs: unknown benign kind poems; known: facts",
        ),
        (
            {"benign_test": ("facts",)},
            "config.jobs (test_benign): facts stands in config.jobs (validation) as well",
        ),
    ],
)
def test_faults_of_a_list_are_the_users(changed, line):
    with pytest.raises(UserError) as raised:
        jobs.job_specs(config(**changed), seed=0)
    assert str(raised.value).startswith(line)
