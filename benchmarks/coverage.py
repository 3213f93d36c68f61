"""Do 95 % intervals cover 95 %? Simulated studies with known error rates decide between methods.

Run `python -m benchmarks.coverage` in the project's folder; it writes benchmarks/coverage.md. One
core, a quarter of an hour.

Every simulated study draws new speakers, utterances and scores for two systems that are equally
good and whose effects are correlated by one half. The true equal error rate is known in closed form
or from millions of independent trials. Counted are the studies whose interval misses it, and the
studies whose paired test calls the two equal systems different.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri, stdtrit

from benchmarks.measuring import markdown, processor, write_sections
from studylib.statistics.error_rates import equal_error_rate
from studylib.statistics.intervals import cells_of, speaker_df, speaker_variance
from studylib.statistics.resampling import Resamples, bootstrap
from studylib.statistics.trials import TrialSpeakers, read_measures, sort_trials, trial_speakers

N_STUDIES, N_SEED_STUDIES, N_RESAMPLES = 2000, 500, 300
SHARED = 0.5  # correlation of each effect between the two systems


@dataclass(frozen=True)
class Trials:
    """Utterances and speakers of a simulated list: all target pairs, some nontarget pairs."""

    first: np.ndarray
    second: np.ndarray
    utterances: int
    n_speakers: int

    @property
    def speakers(self) -> tuple[np.ndarray, np.ndarray]:
        return self.first // self.utterances, self.second // self.utterances

    @property
    def targets(self) -> np.ndarray:
        return np.equal(*self.speakers)


def draw_trials(n_speakers, utterances, per_pair, generator) -> Trials:
    i, j = np.triu_indices(utterances, 1)
    start = np.repeat(np.arange(n_speakers) * utterances, len(i))
    same = np.stack([start + np.tile(i, n_speakers), start + np.tile(j, n_speakers)])
    pairs = np.repeat(np.stack(np.triu_indices(n_speakers, 1)), per_pair, axis=1)
    others = pairs * utterances + generator.integers(0, utterances, pairs.shape)
    first, second = np.concatenate([same, others], axis=1)
    return Trials(first, second, utterances, n_speakers)


@dataclass(frozen=True)
class Additive:
    """Scores as sums of random effects.

    Target: separation + speaker + hard x (1 - exponential); nontarget: the effects b of both
    speakers and one of their pair. Both: the effects of two utterances, and noise.
    """

    what: str
    n_speakers: int
    utterances: int
    per_pair: int
    separation: float
    speaker: float = 0.6
    b: float = 0.4
    pair: float = 0.3
    utterance: float = 0.3
    noise: float = 0.8
    hard: float = 0.0

    def draw(self, generator, offsets=(0.0, 0.0)) -> tuple[np.ndarray, Trials]:
        """Scores (systems, T) and their trials; `offsets` move each system's separation."""
        trials = draw_trials(self.n_speakers, self.utterances, self.per_pair, generator)
        one, other = trials.speakers
        offsets = np.asarray(offsets)[:, None]

        def effect(sd, *shape):
            own = generator.normal(size=(len(offsets), *shape))
            shared = generator.normal(size=shape)
            return sd * (np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own)

        hard = self.hard * (1 - generator.exponential(size=self.n_speakers))
        target = (
            self.separation + offsets + effect(self.speaker, self.n_speakers)[:, one] + hard[one]
        )
        b = effect(self.b, self.n_speakers)
        pair = effect(self.pair, self.n_speakers, self.n_speakers)
        scores = np.where(trials.targets, target, b[:, one] + b[:, other] + pair[:, one, other])
        session = effect(self.utterance, self.n_speakers * self.utterances)
        noise = effect(self.noise, len(one))
        return scores + session[:, trials.first] + session[:, trials.second] + noise, trials

    def true_eer(self, offset: float = 0.0) -> float:
        both = 2 * self.utterance**2 + self.noise**2
        of_targets = np.sqrt(self.speaker**2 + both)
        of_nontargets = np.sqrt(2 * self.b**2 + self.pair**2 + both)
        separation = self.separation + offset
        if not self.hard:
            return float(ndtr(-separation / (of_targets + of_nontargets)))
        # Average the miss rate over the exponential's quantiles, then bisect for the threshold.
        exponential = -np.log1p(-(np.arange(200_000) + 0.5) / 200_000)
        centres = separation + self.hard * (1 - exponential)
        low, high = -10.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            miss = ndtr((middle - centres) / of_targets).mean()
            low, high = (middle, high) if miss < ndtr(-middle / of_nontargets) else (low, middle)
        return float(ndtr(-low / of_nontargets))


@dataclass(frozen=True)
class Cosines:
    """Cosines of embeddings: Gaussian speakers plus Gaussian sessions, louder for some speakers."""

    what: str
    n_speakers: int
    utterances: int
    per_pair: int
    dimension: int
    session: float
    uneven: float

    def embeddings(self, n_speakers, utterances, generator) -> Iterator[np.ndarray]:
        """Two systems' unit embeddings (speakers, utterances, D), correlated by SHARED."""
        spread = self.session * np.exp(self.uneven * generator.normal(size=(n_speakers, 1, 1)))
        shapes = (n_speakers, 1, self.dimension), (n_speakers, utterances, self.dimension)
        shared = [generator.normal(size=shape) for shape in shapes]
        for _ in range(2):
            speaker, session = (
                np.sqrt(SHARED) * part + np.sqrt(1 - SHARED) * generator.normal(size=part.shape)
                for part in shared
            )
            vectors = speaker + spread * session
            yield vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def draw(self, generator) -> tuple[np.ndarray, Trials]:
        trials = draw_trials(self.n_speakers, self.utterances, self.per_pair, generator)
        flat = (
            vectors.reshape(-1, self.dimension)
            for vectors in self.embeddings(self.n_speakers, self.utterances, generator)
        )
        return np.stack(
            [np.einsum("td,td->t", v[trials.first], v[trials.second]) for v in flat]
        ), trials

    def true_eer(self) -> float:
        """From 1.2 million trials of each kind; a speaker occurs in one target and two others."""
        generator = np.random.default_rng(99)
        targets, others = [], []
        for _ in range(30):
            for vectors in self.embeddings(20_000, 2, generator):
                targets.append(np.einsum("sd,sd->s", vectors[:, 0], vectors[:, 1]))
                others.append(np.einsum("sd,sd->s", vectors[:-1, 0], vectors[1:, 1]))
        scores = np.concatenate(targets + others)
        return equal_error_rate(scores, np.arange(len(scores)) < sum(map(len, targets)))


SETUPS = (
    Additive("40 speakers, 10 utterances each", 40, 10, 4, 3.2),
    Additive("20 speakers", 20, 10, 8, 3.2),
    Additive("80 speakers, 6 utterances each", 80, 6, 1, 3.2),
    Additive("pairs matter more than speakers", 40, 10, 4, 3.2, speaker=0.3, b=0.1, pair=0.6),
    Additive("few speakers make most errors", 40, 10, 4, 4.2, speaker=0.3, hard=0.6),
    Cosines("cosines, uneven speakers", 40, 10, 4, 24, 0.7, 0.3),
    Additive("as VoxCeleb1-O: 37,000 trials", 40, 31, 24, 4.2),
)


def resamples_of_trials(scores, trials: Trials, generator) -> np.ndarray:
    """Both systems' EER when single trials are resampled, as if they were independent: (2, 100)."""
    n_targets, n_others = int(trials.targets.sum()), int((~trials.targets).sum())
    unit = np.arange(n_targets + n_others)  # target trials come first
    each = TrialSpeakers(trials.targets, unit, np.zeros((n_others, 2)), ("",) * n_targets)
    # 0 or 2 at random has the mean and the variance of how often a resample holds a trial.
    drawn = 2.0 * generator.integers(0, 2, (len(unit), 100), dtype=np.int8)
    return np.stack([read_measures(sort_trials(one, each), drawn, ["eer"])[0] for one in scores])


def leave_one_out(scores, trials: Trials) -> np.ndarray:
    """The EER without each speaker in turn, (S,)."""
    listed = trial_speakers(trials.targets, *trials.speakers)
    kept = 1.0 - np.eye(trials.n_speakers)
    weights = np.concatenate([kept, kept[listed.pairs[:, 0]] * kept[listed.pairs[:, 1]]])
    return read_measures(sort_trials(scores, listed), weights, ["eer"])[0]


def bca(estimate, resampled, without_one) -> np.ndarray:
    """Efron's bias-corrected and accelerated percentile interval, widened for n speakers."""
    n = len(without_one)
    gaps = without_one.mean() - without_one
    acceleration = np.sum(gaps**3) / (6 * np.sum(gaps**2) ** 1.5)
    bias = ndtri(np.clip(np.mean(resampled < estimate), 0.001, 0.999))
    z = bias + stdtrit(n - 1, [0.025, 0.975]) * np.sqrt(n / (n - 1))
    return np.quantile(resampled, ndtr(bias + z / (1 - acceleration * z)))


def t_interval(value, speakers, pairs, n_speakers, taken_out) -> np.ndarray:
    variance = speaker_variance(speakers, pairs, n_speakers, taken_out=taken_out)
    return value + stdtrit(speaker_df(n_speakers), np.array([0.025, 0.975])) * np.sqrt(variance)


def intervals(resamples: Resamples, of_trials, without_one) -> dict[str, np.ndarray]:
    """Every method's interval of the first system's EER."""
    (value, *_), (speakers, *_) = resamples.estimates, resamples.speakers
    pairs, n, floor = resamples.pairs[0], resamples.n_speakers, resamples.floor
    quantiles = np.quantile(speakers, [0.025, 0.975])

    def on_scale(to, back, taken_out):
        parts = (to(np.clip(part, floor, 1 - floor)) for part in (value, speakers, pairs))
        return back(t_interval(*parts, n, taken_out))

    return {
        "trials, percentile": np.quantile(of_trials[0], [0.025, 0.975]),
        "percentile": quantiles,
        "basic": 2 * value - quantiles[::-1],
        "BCa": bca(value, speakers, without_one),
        "t": on_scale(np.positive, np.positive, 0),
        "logit t": on_scale(logit, expit, 0),
        "log t": on_scale(np.log, np.exp, 0),
        "log t, 1 out": on_scale(np.log, np.exp, 1),
        "log t, 2 out": on_scale(np.log, np.exp, 2),
    }


def differences(resamples: Resamples, of_trials) -> dict[str, np.ndarray]:
    """Every method's interval of the log ratio of the two systems' EERs."""
    logs = [
        np.log(np.maximum(part, resamples.floor))
        for part in (resamples.estimates, resamples.speakers, resamples.pairs, of_trials)
    ]
    value, speakers, pairs, trials = (part[0] - part[1] for part in logs)
    n = resamples.n_speakers
    return {
        "trials, percentile": np.quantile(trials, [0.025, 0.975]),
        "percentile": np.quantile(speakers, [0.025, 0.975]),
        "log t": t_interval(value, speakers, pairs, n, 0),
        "log t, 1 out": t_interval(value, speakers, pairs, n, 1),
        "log t, 2 out": t_interval(value, speakers, pairs, n, 2),
    }


def simulate(setup, n_studies: int) -> tuple[float, dict[str, float], dict[str, float]]:
    """True EER; per method the share of studies that cover it, and of false alarms."""
    truth, covered, alarms = setup.true_eer(), {}, {}
    for study in range(n_studies):
        generator = np.random.default_rng([study, 1])
        scores, trials = setup.draw(generator)
        resamples = bootstrap(
            {"a": scores[0], "b": scores[1]},
            trials.targets,
            *trials.speakers,
            n_resamples=N_RESAMPLES,
            seed=study,
        )["eer"]
        of_trials = resamples_of_trials(scores, trials, generator)
        single = intervals(resamples, of_trials, leave_one_out(scores[0], trials))
        for name, (low, high) in single.items():
            covered.setdefault(name, []).append(low <= truth <= high)
        for name, (low, high) in differences(resamples, of_trials).items():
            alarms.setdefault(name, []).append(not low <= 0 <= high)
    return truth, *({k: np.mean(v) for k, v in table.items()} for table in (covered, alarms))


def simulate_seeds(seed_sds, n_studies: int) -> tuple[dict[str, float], dict[str, float]]:
    """Four equally good cells of three seeds; a seed moves its run's separation. As `simulate`."""
    setup = SETUPS[0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    rates = [setup.true_eer(seed_sds[0] * node) for node in nodes]
    truth = float(np.dot(weights, rates) / weights.sum())
    covered, alarms = {}, {}
    for study in range(n_studies):
        generator = np.random.default_rng([study, 2])
        scores, trials = setup.draw(generator, np.repeat(seed_sds, 3) * generator.normal(size=12))
        resamples = bootstrap(
            {f"{k}": of_run for k, of_run in enumerate(scores)},
            trials.targets,
            *trials.speakers,
            n_resamples=N_RESAMPLES,
            seed=study,
        )["eer"]
        names = {cell: [f"{3 * k + seed}" for seed in range(3)] for k, cell in enumerate("abcd")}
        for (single, difference), method in seed_methods(resamples, names, generator):
            covered.setdefault(method, []).append(single[0] <= np.log(truth) <= single[1])
            alarms.setdefault(method, []).append(not difference[0] <= 0 <= difference[1])
    return tuple({k: np.mean(v) for k, v in table.items()} for table in (covered, alarms))


def seed_methods(resamples: Resamples, names, generator) -> Iterator:
    """Intervals of log EER of cell a and of its log ratio to cell b, and the method's name."""
    cells = cells_of(resamples, names)
    contrasts = cells.contrast({"a": 1.0}), cells.contrast({"a": 1.0, "b": -1.0})

    def reach(contrast, seed_variance, seed_df):
        of_speakers = contrast.speaker_sd**2
        spread = of_speakers**2 / speaker_df(contrast.n_speakers)
        spread += seed_variance**2 / seed_df if seed_variance else 0
        total = of_speakers + seed_variance
        return stdtrit(total**2 / spread, np.array([0.025, 0.975])) * np.sqrt(total)

    yield [c.value + reach(c, 0.0, 1) for c in contrasts], "speakers only"
    drawn = generator.integers(0, 3, (2, 3, resamples.speakers.shape[1]))
    logs = [
        np.log(np.take_along_axis(resamples.speakers[3 * k : 3 * k + 3], drawn[k], 0).mean(axis=0))
        for k in range(2)
    ]
    both = np.quantile(np.stack([logs[0], logs[0] - logs[1]]), [0.025, 0.975], axis=1)
    yield both.T, "seeds and speakers resampled, percentile"
    own, pooled = cells.seed_sds[:2] ** 2 / 3, np.mean(cells.seed_sds**2) / 3
    yield (
        [
            contrasts[0].value + reach(contrasts[0], own[0], 2),
            contrasts[1].value
            + reach(contrasts[1], own.sum(), own.sum() ** 2 / np.sum(own**2 / 2)),
        ],
        "own seed variance",
    )
    yield [c.value + reach(c, k * pooled, 8) for k, c in enumerate(contrasts, 1)], "pooled"
    yield [c.interval() for c in contrasts], "pooled, speakers' share out"


def percent(shares: dict[str, float]) -> list[str]:
    return [f"{100 * share:.1f}" for share in shares.values()]


def of_speakers(n_studies: int) -> dict[str, str]:
    """The sections of intervals and of false alarms."""
    single, paired = [], []
    for setup in SETUPS:
        truth, covered, alarms = simulate(setup, n_studies)
        single = single or [["simulated studies", "true EER %", *covered]]
        paired = paired or [["simulated studies", *alarms]]
        single.append([setup.what, f"{100 * truth:.2f}", *percent(covered)])
        paired.append([setup.what, *percent(alarms)])
        print(setup.what, percent(covered), percent(alarms), flush=True)
    about = (
        f"{n_studies:,} simulated studies a row, standard error of 5 %: {error(n_studies):.1f} %."
    )
    return {
        INTERVALS: f'{about} the study uses "log t, 1 out".\n\n{markdown(single)}',
        ALARMS: f'{about} the study uses "log t, 2 out".\n\n{markdown(paired)}',
    }


def of_seeds(n_studies: int) -> dict[str, str]:
    rows = []
    sizes = 0.08, 0.12, 0.06  # in units of the score
    for what, sds in (
        ("none", [0.0] * 4),
        ("same for all cells", [sizes[0]] * 4),
        ("twice as large in a and b", np.repeat(sizes[1:], 2)),
    ):
        covered, alarms = simulate_seeds(sds, n_studies)
        rows = rows or [["seed variance", "asked", *covered]]
        rows.append([what, "interval of a covers", *percent(covered)])
        rows.append([what, "a differs from b", *percent(alarms)])
        print(what, percent(covered), percent(alarms), flush=True)
    same, large, small = (
        100 * np.log(SETUPS[0].true_eer(-sd) / SETUPS[0].true_eer()) for sd in sizes
    )
    about = ABOUT_SEEDS.format(
        n=n_studies, error=error(n_studies), same=same, large=large, small=small
    )
    return {SEEDS: f"{about}\n{markdown(rows)}"}


def error(n_studies: int) -> float:
    return 100 * np.sqrt(0.05 * 0.95 / n_studies)


INTERVALS = "How often a 95 % interval of one system's EER covers the true EER, %"
ALARMS = "How often the paired test calls two equal systems different at the 5 % level, %"
SEEDS = "Seeds"
HEAD = f"""# Coverage of the intervals and false alarms of the paired test

Made by `python -m benchmarks.coverage` on
{processor()}, numpy {np.__version__}.

{N_RESAMPLES} resamples a study. Two systems are equally good; all their effects (speakers, pairs of
speakers, utterances, trials) are correlated by one half.

- "trials" resamples single trials as if they were independent; all others resample speakers, both
  sides of a nontarget trial.
- "t": estimate +- t x bootstrap standard deviation, with (speakers - 1) / 2 degrees of freedom, on
  the scale named.
- "1 out", "2 out": the bootstrap counts the noise of single pairs of speakers three times; one or
  two of them are taken out of the variance.
"""
ABOUT_SEEDS = """Four equally good settings, three seeds each, {n} simulated studies (standard error
of 5 %: {error:.1f} %). A seed moves its run's true EER by a standard deviation of about
{same:.0f} % ("same"), or {large:.0f} % and {small:.0f} % ("twice as large"), or not at all ("none":
seeds then differ in what they make of the test speakers, and in nothing else). The first line of a
pair should be 95, the second 5. The study uses the last column: the speakers' share of
the seeds' spread, which resampling speakers counts already, is taken out.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=N_STUDIES)
    parser.add_argument("--seed-studies", type=int, default=N_SEED_STUDIES)
    parser.add_argument("--only", choices=["speakers", "seeds"])
    options = parser.parse_args()
    new = {}
    if options.only != "seeds":
        new |= of_speakers(options.studies)
    if options.only != "speakers":
        new |= of_seeds(options.seed_studies)
    write_sections(Path(__file__).with_suffix(".md"), HEAD, (INTERVALS, ALARMS, SEEDS), new)


if __name__ == "__main__":
    main()
