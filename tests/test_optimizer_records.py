"""Optimizers against trajectories that were recorded from other libraries."""

import numpy as np
import pytest
from test_optimizers import STEPS, gradient_at, nested

import fastgrad as fg

# The first element and the sum of each parameter after STEPS steps of 0.01 by optax 0.2.8 (lion, lamb) and by PyTorch
# 2.13 (Adafactor; Muon with its iterations in float64 in the place of bfloat16), on the same gradients.
RECORDED = [
    ("Lion", {}, {"wide": (0.3255707534117461, -3.66128504591389), "tall": (-0.3116306423787988, 1.1394441378998983),
                  "bias": (0.5998004950296956, -0.3766280862120092), "scale": (0.554349187247734, 0.554349187247734),
                  "stack": (-0.3846563850151255, 4.839128804907157)}),
    ("Lion", {"betas": (0.5, 0.8), "weight_decay": 0.3},
     {"wide": (0.2683852461145226, -3.1820062785735086), "tall": (-0.32710346080629016, 0.31209551458376456)}),
    ("LAMB", {},
     {"wide": (0.20910566560454152, -4.158973495754877), "tall": (-0.45674785075005947, 0.24656305555951002),
      "bias": (0.42064883415863663, -0.5388021093646826), "scale": (0.3383450989590044, 0.3383450989590044),
      "stack": (-0.3677699187966752, 5.486103334831947)}),
    ("LAMB", {"weight_decay": 0.1},
     {"wide": (0.16660939735759336, -3.318780753308823), "stack": (-0.24499732206226735, 4.685524796016979)}),
    ("Muon", {},
     {"wide": (0.20422606369921137, -3.493477406654577), "tall": (-0.24173741355057224, 0.4841248933365141)}),
    ("Muon", {"nesterov": False, "momentum": 0.5, "weight_decay": 0.0},
     {"wide": (0.14305981815395052, -3.6330997338649675), "tall": (-0.5709766273179785, 0.07101612439862581)}),
    ("Muon", {"adjust_lr_fn": "match_rms_adamw"},
     {"wide": (0.1528532657227098, -3.319449780459246), "tall": (-0.540892174000219, -0.03425368304670484)}),
    ("Adafactor", {},
     {"wide": (0.17094474297551943, -3.656148153278355), "tall": (-0.6479621595097372, -0.061031409066134246),
      "bias": (0.24906296018693322, -0.6290528242100358), "scale": (0.23260929752681514, 0.23260929752681514),
      "stack": (0.18657967466363268, 8.364093626286403)}),
    ("Adafactor", {"weight_decay": 0.1, "d": 1.5, "eps": (1e-6, 1e-2), "beta2_decay": -0.5},
     {"wide": (0.16154280690703804, -3.3467247102024786), "stack": (0.15596843430790813, 7.590703567684431)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "recorded"), RECORDED)
def test_the_trajectory_is_that_of_optax_and_pytorch(name, arguments, recorded):
    params, optimizer = nested(), getattr(fg.optim, name)(0.01, **arguments)
    for t in range(1, STEPS + 1):
        optimizer.step(params, gradient_at(params, t))
    for key, (first, total) in recorded.items():
        np.testing.assert_allclose([params[key].flat[0], params[key].sum()], [first, total], rtol=1e-9, err_msg=key)
