"""What every figure of the report means, and where the definition comes from."""

from __future__ import annotations

from dataclasses import dataclass

EMOTION_VECTORS = "https://arxiv.org/abs/2502.04075"
AI_WITH_EMOTIONS = "https://arxiv.org/abs/2504.14706"


@dataclass(frozen=True)
class Source:
    """A work that is referred to; ``link`` may be empty."""

    text: str
    link: str = ""


DEFINITIONS: tuple[tuple[str, str], ...] = (
    (
        "State",
        "One of 12 points of the unit circle, 30° apart: valence is the cosine of its angle,"
        " arousal the sine. Intensity scales what is asked for, from 0 to 1.",
    ),
    (
        "Cosine of a text",
        "The cosine of the angle between the requested state and the place of the text's top"
        " label, the label to which the judge gives the highest probability, in a table of"
        " coordinates chosen before the run. It is 0 for a label without a place (such as"
        " neutral, confusion and realization) and for an empty answer: no text is dropped.",
    ),
    (
        "Mean cosine",
        "The mean of the cosines of all texts, with equally many texts for each state.",
    ),
    (
        "Pooled",
        "For each state, the mean of the places of the top labels (a label without a place"
        " counting as the centre) and its cosine with the state; then the mean over states. It"
        " forgives texts that differ, so it is higher than the mean cosine.",
    ),
    (
        "Floor, p",
        "The mean cosine of the same texts with the requested states permuted at random: mean"
        " and the range that holds 95 % of the permutations. p is the share of permutations that"
        " do at least as well, (1 + hits) / (1 + permutations).",
    ),
    (
        "Ceiling",
        "The mean cosine of human text with a single label, taken for each state from the label"
        " nearest to it by angle; the same judge, table and cosine. A judge that errs lowers it. Of"
        " several ceilings, by how much text a label needs, the highest counts.",
    ),
    ("Of ceiling", "The mean cosine divided by that of the ceiling."),
    (
        "No place, refusals, empty",
        "Shares of the texts: those whose top label has no place, those that decline to answer,"
        " and those without a word.",
    ),
    (
        "Probability of the intended emotion",
        "The probability that the judge gives to the labels of the intended emotion, averaged"
        " over texts.",
    ),
    (
        "Perplexity",
        "exp of the mean negative log-likelihood per token of what was written, over all tokens"
        " of a condition's texts, under the unsteered model. As a ratio: divided by that of the"
        " unsteered texts.",
    ),
    (
        "Distinct-n, distinct-3",
        "Different n-grams of words divided by all n-grams of a condition's texts; as a ratio,"
        " divided by that of the unsteered texts. More text lowers it and less raises it, so a"
        " condition that writes longer answers is at a disadvantage.",
    ),
    (
        "Repetition",
        "1 − distinct 4-grams / 4-grams of words within a text; the mean over texts. It is the"
        " seq-rep-4 of Welleck et al.",
    ),
    (
        "Topic adherence",
        "The similarity of a text with the unsteered answer to the same opening (to unsteered)"
        " and with the opening itself (to opening), from −1 to 1: the cosine of the mean hidden"
        " states with which the unsteered model reads the two, after two thirds of its blocks and"
        " less what all unsteered answers (all openings) have in common. To read it by: the"
        " similarity of two unsteered answers to one opening, and to two different ones.",
    ),
    (
        "Strength",
        "The factor of a vector. 1.0 is the strength that calibration found; a negative strength"
        " asks for the opposite.",
    ),
    (
        "Dose",
        "The KL divergence of the steered from the unsteered next-token distribution, in nats per"
        " token, measured on unsteered texts. Laws are compared at equal dose, since equal"
        " strength is not equal effect.",
    ),
    (
        "Dose reached",
        "The dose measured at the strengths that were found for the dose asked for, the mean over"
        " emotions. These strengths are interpolated and corrected once, so the dose reached"
        " differs a little from the one asked for. The differences of the laws are at the"
        " strengths found.",
    ),
    (
        "Law",
        "Add: the vector is added to the row, h + v. Preserve: the sum is then scaled back to"
        " the length that the row had.",
    ),
    (
        "Surprise",
        "The negative log-likelihood per token of each text under the unsteered model, in nats;"
        " the mean over texts. It is not the logarithm of the perplexity, which pools all tokens."
        " A difference is of pairs of texts in which neither is empty.",
    ),
    (
        "Agreement of judges",
        "On the same texts: the share of equal top labels, empty answers left out; Cohen's kappa,"
        " which takes away the agreement of chance, of the texts whose two labels both judges"
        " know; Pearson's"
        " correlation of the cosines; and the share of texts whose top labels lie less than 45°"
        " apart, of those where both have a place.",
    ),
    (
        "Interval",
        "95 % by bootstrap over openings: an opening is drawn with all its seeds and states."
        " Conditions answer the same openings, so whether the intervals of two of them overlap"
        " does not decide whether they differ; the interval of a paired difference does.",
    ),
)

SOURCES: tuple[tuple[Source, str], ...] = (
    (
        Source("AI with Emotions, arXiv 2504.14706", AI_WITH_EMOTIONS),
        "The consistency experiment: twelve states of arousal and valence, prompts that give the"
        " two values, a classifier with the GoEmotions labels, a table from labels to the"
        " circumplex, and the cosine.",
    ),
    (
        Source("Emotion Vectors, arXiv 2502.04075", EMOTION_VECTORS),
        "Vectors added to the activations, a range of strengths, and the names of the measures:"
        " emotion probability, perplexity and topic adherence.",
    ),
    (
        Source("Li et al. 2016, arXiv 1510.03055", "https://arxiv.org/abs/1510.03055"),
        "Distinct-n.",
    ),
    (
        Source("Welleck et al. 2020, arXiv 1908.04319", "https://arxiv.org/abs/1908.04319"),
        "The measure of repetition.",
    ),
    (
        Source("GoEmotions, arXiv 2005.00547", "https://arxiv.org/abs/2005.00547"),
        "The labels, and the human text of the ceiling.",
    ),
    (
        Source("Russell 1980, Journal of Personality and Social Psychology 39, 1161–1178"),
        "The circumplex.",
    ),
)

OWN_CHOICES: tuple[str, ...] = (
    "Neither paper's full definitions were available to us. The figures are therefore not"
    " reproductions of their tables, and are not to be set beside them as if they were.",
    "The table of coordinates, the prompt templates and eight of the ten questions are ours. So"
    " are: the top label alone counts, a label without a place counts 0, floor and ceiling stand"
    " beside every result.",
    "The exact definitions of intended probability and topic adherence, and comparing"
    " laws at equal KL divergence, are ours.",
    "Of several prompt templates the comparisons take the one that comes out best, which favours"
    " prompts over vectors.",
)
