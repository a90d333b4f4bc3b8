"""One model's GRPO steps by TRL, each when a line arrives on standard input; its seconds are written to standard output.

Run by :mod:`benchmarks.step` with an environment that has TRL; it imports nothing of this project.

    python benchmarks/trl_step.py FOLDER DTYPE PROMPT PROBLEMS GENERATIONS NEW_TOKENS STEPS
"""

from __future__ import annotations

import sys
import time
from tempfile import TemporaryDirectory
from typing import Any


def main(model: str, dtype: str, prompt: str, *sizes: int) -> None:
    """Train with what :mod:`benchmarks.step` trains with: LoRA, GRPO with a KL term, the same sampling; float32 adapter."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]

    problems, generations, new_tokens, steps = sizes

    class OnDemand(TrainerCallback):
        """Waits before a step for the parent's turn to end, and reports after it."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            sys.stdin.readline()
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            print(f"seconds {time.perf_counter() - self.start}", flush=True)

    with TemporaryDirectory() as folder:
        settings = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=problems * generations,
            num_generations=generations,
            max_completion_length=new_tokens,
            generation_kwargs={"min_new_tokens": new_tokens},
            temperature=0.7,
            top_p=0.9,
            beta=0.04,
            learning_rate=1e-5,
            max_steps=steps,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            model_init_kwargs={"dtype": dtype},
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        GRPOTrainer(
            model=model,
            # A number that differs from trace to trace, so that every group has a signal.
            reward_funcs=lambda completions, **_: [float(len(c) % 7) for c in completions],
            args=settings,
            train_dataset=Dataset.from_dict({"prompt": [prompt] * (problems * steps)}),
            peft_config=LoraConfig(
                r=16,
                lora_alpha=32,
                task_type="CAUSAL_LM",
                target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            ),
            callbacks=[OnDemand()],
        ).train()


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
