"""A controller for a pendulum, written in Python and exported as C: each call improves a plan of torques by gradients
through a simulation, and returns the first of them. If there is a C compiler, a C program swings the pendulum up by it.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import fastgrad as fg

DT, HORIZON, LIMIT = 0.05, 40, 5.0


def advance(state, torque):
    """A step of the symplectic Euler method; the angle is 0 where the pendulum stands upright."""
    angle, speed = state
    speed = speed + DT * (9.81 * fg.sin(angle) - 0.1 * speed + torque)
    return angle + DT * speed, speed


def cost(plan, angle, speed):
    def step(state, wish):
        torque = LIMIT * fg.tanh(wish)
        angle, speed = state = advance(state, torque)
        return state, 1 - fg.cos(angle) + 0.02 * speed**2 + 0.002 * torque**2

    (angle, speed), costs = fg.scan(step, (angle, speed), plan)
    return fg.sum(costs) + 20 * (1 - fg.cos(angle)) + 0.5 * speed**2


def control(angle, speed, plan):
    """The torque for this state, and the plan for the next call."""

    def improve(_, plan):
        slope = fg.grad(cost)(plan, angle, speed)
        return plan - 0.3 * slope / (1 + fg.sqrt(fg.sum(slope * slope)))

    plan = fg.fori_loop(0, 30, improve, plan)
    return LIMIT * fg.tanh(plan[0]), fg.concatenate([plan[1:], plan[-1:]])


MAIN = """
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "control.h"

int main(void) {
    static control_workspace workspace;
    double angle = 3.0, speed = 0.0, plan[%d] = {0.1}, next[%d], torque;
    for (int k = 0; k < 200; k++) {
        if (control(angle, speed, plan, &torque, next, &workspace)) return 1;
        speed += %g * (9.81 * sin(angle) - 0.1 * speed + torque);
        angle += %g * speed;
        memcpy(plan, next, sizeof plan);
    }
    printf("C: height %%.3f after 10 s\\n", cos(angle));
}"""


def simulated(f):
    angle, speed, plan = 3.0, 0.0, np.eye(1, HORIZON)[0] / 10
    for _ in range(200):
        torque, plan = f(angle, speed, plan)
        angle, speed = (float(x) for x in advance((angle, speed), torque))
    return np.cos(angle)


print(f"Python: height {simulated(fg.compile(control)):.3f} after 10 s")
with tempfile.TemporaryDirectory() as folder:
    source, _ = fg.export(control, 3.0, 0.0, np.zeros(HORIZON), path=Path(folder) / "control.c")
    if compiler := shutil.which("cc") or shutil.which("gcc"):
        main, program = source.with_name("main.c"), source.with_name("swing_up")
        main.write_text(MAIN % (HORIZON, HORIZON, DT, DT))
        subprocess.run([compiler, "-std=c11", "-O2", main, source, "-o", program, "-lm"], check=True)
        print(subprocess.run([program], capture_output=True, text=True, check=True).stdout, end="")
