"""Does cross-teaching help? Arms x pairs x seeds at an equal budget, and what came of it (see README.md here).

python -m benchmarks.learning run --pair nano --out benchmarks/learning/results/nano.jsonl
python -m benchmarks.learning report benchmarks/learning/results/nano.jsonl
"""
