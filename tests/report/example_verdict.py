"""A made-up verdict for the tests of the schema, the page and the service."""


def example_verdict():
    """A made-up verdict (schema 1) of an attack, with every kind of entry in it."""
    counts = {
        "rows": ["option A", "option B"],
        "columns": ["dash", "plain"],
        "cells": [[40, 2], [3, 39]],
    }
    reason = "The reply has a dash where the model's own answer is option A."
    return {
        "schema": 1,
        "job": "upload-7",
        "n_examples": 134,
        "n_replies": 268,
        "upload": "5d41402abc4b2a76",
        "calibrations": {"rows": "7d793037a0760186"},
        "git_revision": "0123abc",
        "device": "1 x cpu (cpu)",
        "risk": 0.97,
        "p_value": 0.002,
        "verdict": "attack",
        "operating_point": {
            "fpr": 0.01,
            "threshold": 0.93,
            "calibrated_on": "1000 honest jobs on tiny",
            "n_benign": 1000,
        },
        "detectors": [
            {
                "name": "conditional_permutation",
                "level": "dataset",
                "statistic": 0.4127,
                "p_value": 0.0001,
                "evidence": [
                    {
                        "reason": reason,
                        "rows": [1, 2, 3, 9],
                        "counts": counts,
                    }
                ],
                "not_tested": None,
            },
            {
                "name": "style_features",
                "level": "dataset",
                "statistic": None,
                "p_value": 0.2,
                "evidence": [],
                "not_tested": None,
            },
            {
                "name": "weight_drift",
                "level": "adapter",
                "statistic": None,
                "p_value": None,
                "evidence": [],
                "not_tested": "no tuned model was given",
            },
        ],
        "rounds": [
            {"step": 10, "loss": 3.2, "drift": 0.04, "weight_change": 1.5},
            {"step": 20, "loss": 1.1, "drift": 0.21, "weight_change": 2.25},
        ],
        "not_checked": [{"what": "images", "why": "the upload has none"}],
        "base_model": {"name": "tiny", "parameters": 1_234_567},
        "seed": 0,
        "versions": {"cifr_jax": "0.4.0", "python": "3.11.9"},
        "timings": {"read": 0.4, "dataset": 3.1},
        "config": {"seed": 0, "job.data": "upload.jsonl"},
        "limits": ["A code over latents that nobody tests goes unseen."],
    }
