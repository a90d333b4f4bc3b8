r"""A third adversarial table: exact values, gaps between digits, units behind LaTeX, other marks of an answer."""

NOTATIONS = [
    # digits grouped by a comma and a negative space, as MATH writes gold answers
    (r"\boxed{40000}", r"40,\!000", "number", True),
    (r"\boxed{40,000}", r"40,\!000", "math", True),
    (r"\boxed{40}", r"40,\!000", "number", False),
    (r"\boxed{1,\!234,\!567}", "1234567", "number", True),
    # no rounding: what is tiny or huge is still exact
    (r"\boxed{\frac{1}{21!}}", r"\frac{1}{20!}", "math", False),
    (r"\boxed{\frac{1}{20!}}", r"\frac{1}{20!}", "math", True),
    (r"\boxed{\frac{1}{2^{98}}}", r"\frac{1}{2^{99}}", "math", False),
    (r"\boxed{\frac{2}{2^{99}}}", r"\frac{1}{2^{98}}", "math", True),
    (r"\boxed{2^{98}}", r"2^{98} + 1", "math", False),
    (r"\boxed{1 + \frac{1}{10^{15}}}", r"1 + \frac{1}{10^{16}}", "math", False),
    (r"\boxed{\frac{7!}{5!}}", "42", "math", True),
    (r"\boxed{\binom{4}{2}}", "6", "math", True),
    # repeating decimals
    (r"\boxed{0.\overline{3}}", "1/3", "number", True),
    (r"\boxed{0.\overline{3}}", r"\frac{1}{3}", "math", True),
    (r"\boxed{0.1\overline{6}}", r"\frac16", "math", True),
    (r"\boxed{0.\overline{9}}", "1", "number", True),
    (r"\boxed{0.\overline{12}}", r"0.\overline{13}", "math", False),
    # units behind LaTeX
    (r"\boxed{16\pi \text{ cm}^2}", r"16\pi", "math", True),
    (r"\boxed{16\pi}", r"16\pi \text{ cm}^2", "math", True),
    (r"\boxed{16\pi\,\mathrm{cm}^{2}}", r"16\pi \text{ cm}^2", "math", False),
    (r"\boxed{16\pi\,\mathrm{cm}^2}", r"16\pi \text{ cm}^2", "math", True),
    (r"\boxed{16\pi \text{ cm}}", r"16\pi \text{ cm}^2", "math", False),
    (r"\boxed{8\pi \text{ cm}^2}", r"16\pi", "math", False),
    (r"\boxed{2\sqrt{3} \text{ meters}}", r"2\sqrt{3}", "math", True),
    # powers as numbers
    (r"\boxed{10^3}", "1000", "number", True),
    (r"\boxed{10^{-2}}", "0.01", "number", True),
    (r"\boxed{2^{10}}", "1,024", "number", True),
    (r"\boxed{10^3}", "103", "number", False),
    (r"\boxed{10^3}", "30", "number", False),
    # other marks
    ("3 + 9 = 12 apples\nAns: 12", "12", "number", True),
    ("Ans: 13", "12", "number", False),
    ("7 and 5.\nFinal answer - 7", "7", "number", True),
    ("7 and 5.\nFinal Answer – 5", "7", "number", False),
    ("7 and 5.\nAnswer - (B)", "B", "choice", True),
    (r"so \boxed 7", "7", "number", True),
    (r"so $\boxed7$", "7", "number", True),
    (r"so \boxed 12", "1", "number", False),
    (r"so \boxed 12", "12", "number", True),
    (r"so \fbox B", "B", "choice", True),
    # a point is no list
    (r"\boxed{(-2,5)}", "-2, 5", "math", False),
    (r"\boxed{(-2,5)}", "(-2,5)", "math", True),
    (r"\boxed{-2, 5}", "-2, 5", "math", True),
    (r"\boxed{5, -2}", "-2, 5", "math", True),
    (r"\boxed{[-2,5]}", "-2, 5", "math", False),
]
