"""Anytime-valid statistics, pure numpy: what a release is decided on.

rates.py       two rates side by side: errors, slow answers, decisions
means.py       the mean of bounded numbers: shadow pairs, losses at label arrival
losses.py      bounded losses of a probability against a label
split.py       whether the traffic is split as told
drift.py       PSI and KS with their null quantiles; reported, decide nothing
dispersion.py  whether outcomes come in clusters, from earlier blocks
mixing.py      what the e-processes share: means of products, late starts
"""
