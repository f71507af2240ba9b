/* by_hand.c: value and gradient as somebody writes them who has the time: forward, and backward through what was kept.
 * bench_native.py compiles this with the flags of native programs, and compares.
 */
#include <math.h>

enum { STEPS = 2000 };

/* The mean square of the voltage of a Hodgkin-Huxley neuron over 2,000 Euler steps, and its derivatives by the first
 * voltage and by the conductance of sodium. */
void neuron(double v, double conductance, double *value, double *by_v, double *by_conductance)
{
    static _Thread_local double kept[STEPS][10];
    const double dt = 0.025;
    double n = 0.3177, m = 0.0529, h = 0.5961, total = 0;
    for (int t = 0; t < STEPS; t++) {
        double *k = kept[t];
        k[0] = v, k[1] = n, k[2] = m, k[3] = h;
        k[4] = exp(-(v + 55) / 10), k[5] = 0.125 * exp(-(v + 65) / 80);
        k[6] = exp(-(v + 40) / 10), k[7] = 4 * exp(-(v + 65) / 18);
        k[8] = 0.07 * exp(-(v + 65) / 20), k[9] = exp(-(v + 35) / 10);
        double an = 0.01 * (v + 55) / (1 - k[4]), am = 0.1 * (v + 40) / (1 - k[6]), bh = 1 / (1 + k[9]);
        double current = conductance * m * m * m * h * (v - 50) + 36 * n * n * n * n * (v + 77) + 0.3 * (v + 54.4);
        total += v * v;
        v += dt * (10 - current);
        n += dt * (an * (1 - n) - k[5] * n);
        m += dt * (am * (1 - m) - k[7] * m);
        h += dt * (k[8] * (1 - h) - bh * h);
    }
    double gv = 0, gn = 0, gm = 0, gh = 0, gc = 0;
    for (int t = STEPS; t-- > 0;) {
        const double *k = kept[t];
        v = k[0], n = k[1], m = k[2], h = k[3];
        double e = 1 - k[4], an = 0.01 * (v + 55) / e, an_v = 0.01 * (e - (v + 55) * k[4] / 10) / (e * e);
        double f = 1 - k[6], am = 0.1 * (v + 40) / f, am_v = 0.1 * (f - (v + 40) * k[6] / 10) / (f * f);
        double bh = 1 / (1 + k[9]), bh_v = bh * bh * k[9] / 10, n3 = n * n * n, m2 = m * m;
        double gi = -dt * gv;                   /* by the current */
        double next_v = gv + gi * (conductance * m2 * m * h + 36 * n3 * n + 0.3) + 2 * v / STEPS +
                        dt * (gn * (an_v * (1 - n) + k[5] / 80 * n) + gm * (am_v * (1 - m) + k[7] / 18 * m) -
                              gh * (k[8] / 20 * (1 - h) + bh_v * h));
        gc += gi * m2 * m * h * (v - 50);
        gn = gn * (1 - dt * (an + k[5])) + gi * 144 * n3 * (v + 77);
        gh = gh * (1 - dt * (k[8] + bh)) + gi * conductance * m2 * m * (v - 50);
        gm = gm * (1 - dt * (am + k[7])) + gi * conductance * 3 * m2 * h * (v - 50);
        gv = next_v;
    }
    *value = total / STEPS, *by_v = gv, *by_conductance = gc;
}

/* The sum of squares of the last populations of predators and prey after 2,000 steps of the classical method of Runge
 * and Kutta, and its derivatives by the four rates. */
void populations(const double *rates, double *value, double *by_rates)
{
    static _Thread_local double kept[STEPS][8];
    const double dt = 0.01, a = rates[0], b = rates[1], c = rates[2], d = rates[3];
    double x = 1, y = 0.5;
    for (int t = 0; t < STEPS; t++) {
        double *k = kept[t], kx[4], ky[4];
        for (int i = 0; i < 4; i++) {
            double step = i == 0 ? 0 : i == 3 ? dt : dt / 2;
            double u = x + (i ? step * kx[i - 1] : 0), w = y + (i ? step * ky[i - 1] : 0);
            k[2 * i] = u, k[2 * i + 1] = w;
            kx[i] = a * u - b * u * w, ky[i] = d * u * w - c * w;
        }
        x += dt / 6 * (kx[0] + 2 * kx[1] + 2 * kx[2] + kx[3]);
        y += dt / 6 * (ky[0] + 2 * ky[1] + 2 * ky[2] + ky[3]);
    }
    *value = x * x + y * y;
    double gx = 2 * x, gy = 2 * y, ga = 0, gb = 0, gc = 0, gd = 0;
    for (int t = STEPS; t-- > 0;) {
        const double *k = kept[t];
        double hx = gx, hy = gy, fx = 0, fy = 0;        /* by x and y; by the stage after the present one */
        for (int i = 3; i >= 0; i--) {
            double weight = i == 0 || i == 3 ? dt / 6 : dt / 3, step = i == 3 ? 0 : i == 2 ? dt : dt / 2;
            double u = k[2 * i], w = k[2 * i + 1], px = weight * gx + step * fx, py = weight * gy + step * fy;
            ga += px * u, gb -= px * u * w, gc -= py * w, gd += py * u * w;
            fx = px * (a - b * w) + py * d * w;
            fy = py * (d * u - c) - px * b * u;
            hx += fx, hy += fy;
        }
        gx = hx, gy = hy;
    }
    by_rates[0] = ga, by_rates[1] = gb, by_rates[2] = gc, by_rates[3] = gd;
}
