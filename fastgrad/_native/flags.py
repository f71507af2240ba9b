"""The flags by which C is compiled: kernels, when fastgrad is built (setup.py reads this file), and native programs.

They are the same, because a compiler that may fuse a product with a sum gives other bits than one that may not.
"""

# Of each instruction set.
ISA_FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"],
    "neon": [],
}
# Of the language and of arithmetic.
C_FLAGS = ["-std=c11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
