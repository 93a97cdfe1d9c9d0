"""How often the gate errs, where the truth is known.

    pools.py      a population of answers by several models, and mixtures of them with an exact truth
    answers.py    scoring a model over the exams of a pool, by the scorer of the real exam
    exams.py      those exams, set as the nightly examiner sets them
    market.py     a pool of the simulated market, where true affinities are known
    retail.py     a pool of Online Retail, real people and real models
    scenarios.py  nights: evidence drawn from a pool for a candidate of known worth
    ratchet.py    twenty nights of tiny losses in a row
    rules.py      the gate, and the three rules beside it
    topics.py     the forecaster's seat with shocks that its topics share
    shares.py     estimates and their intervals
    report.py     tables
    figures.py    the plot

The command is `python -m benchmarks.gate_calibration`; docs/benchmarks.md says what its figures mean.
"""
