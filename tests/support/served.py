"""A server that answers as vLLM 0.32 did when it was asked the same (recorded), with numbers from plain transformers and PEFT.

No cache, no batch, one token at a time, torch's own generator: nothing of the library under test.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from pytest_httpserver import HTTPServer
from transformers import AutoModelForCausalLM
from werkzeug import Request, Response

#: vLLM's words; {} is what was asked for.
NO_MODEL = "The model `{}` does not exist. Valid aliases: <path>"
NO_ADAPTER = "Loading lora {} failed: No adapter found for {}"
NOT_LOADED = "The lora adapter '{}' cannot be found."
RANK = "LoRA rank {} is greater than max_lora_rank {}."


class ServedModel:
    """A base model, and adapters that come and go."""

    def __init__(self, http: HTTPServer, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.adapters: dict[str, Any] = {}
        self.paths: dict[str, str] = {}
        self.asked: list[dict[str, Any]] = []
        self.unloaded: list[str] = []
        self.options = {"max_model_len": 512, "max_lora_rank": 16, "runtime": True, "processed": True, "key": None}
        self.options |= options
        #: Statuses that the next completions are answered with, instead.
        self.failures: list[int] = []
        self._base = AutoModelForCausalLM.from_pretrained(self.options.get("weights", folder)).eval()
        http.expect_request("/v1/models").respond_with_handler(self._guarded(self._models))
        http.expect_request("/v1/completions", method="POST").respond_with_handler(self._guarded(self._completion))
        if self.options["runtime"]:
            http.expect_request("/v1/load_lora_adapter").respond_with_handler(self._guarded(self._load))
            http.expect_request("/v1/unload_lora_adapter").respond_with_handler(self._guarded(self._unload))
        else:
            http.expect_request("/v1/load_lora_adapter").respond_with_json({"detail": "Not Found"}, status=404)

    def _guarded(self, handler: Any) -> Any:
        def handle(request: Request) -> Response:
            if self.options["key"] and request.headers.get("Authorization") != f"Bearer {self.options['key']}":
                return _json({"error": "Unauthorized"}, 401)
            return handler(request)

        return handle

    def _models(self, request: Request) -> Response:
        card = {"id": str(self.folder), "object": "model", "owned_by": "vllm", "root": str(self.folder), "parent": None}
        card |= {"max_model_len": self.options["max_model_len"]}
        loaded = [
            {
                "id": n,
                "object": "model",
                "owned_by": "vllm",
                "root": p,
                "parent": str(self.folder),
                "max_model_len": None,
            }
            for n, p in self.paths.items()
        ]
        return _json({"object": "list", "data": [card, *loaded]})

    def _load(self, request: Request) -> Response:
        name, path = request.json["lora_name"], request.json["lora_path"]
        if not (Path(path) / "adapter_config.json").is_file():
            return _error(NO_ADAPTER.format(name, path), 404)
        rank = json.loads((Path(path) / "adapter_config.json").read_text())["r"]
        if rank > self.options["max_lora_rank"]:
            return _error(RANK.format(rank, self.options["max_lora_rank"]), 500)
        self.adapters[name], self.paths[name] = PeftModel.from_pretrained(copy.deepcopy(self._base), path).eval(), path
        return Response(f"Success: LoRA adapter '{name}' added successfully.")

    def _unload(self, request: Request) -> Response:
        name = request.json["lora_name"]
        if name not in self.adapters:
            return _error(NOT_LOADED.format(name), 404)
        del self.adapters[name], self.paths[name]
        self.unloaded.append(name)
        return Response(f"Success: LoRA adapter '{name}' removed successfully.")

    @torch.no_grad()
    def _completion(self, request: Request) -> Response:
        body = request.json
        if self.failures:
            return _error("later", self.failures.pop(0))
        model = self._base if body["model"] == str(self.folder) else self.adapters.get(body["model"])
        if model is None:
            return _error(NO_MODEL.format(body["model"]), 404)
        self.asked.append(body)
        ids, logprobs, reason = list(body["prompt"]), [], "length"
        generator = torch.Generator().manual_seed(body.get("seed", 0))
        for _ in range(body["max_tokens"]):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double()
            raw = torch.log_softmax(logits, -1)
            if allowed := body.get("allowed_token_ids"):
                logits = torch.full_like(logits, -torch.inf).index_fill(0, torch.tensor(allowed), 0.0)
            drawn_from = torch.log_softmax(logits / body["temperature"], -1)
            if body.get("top_p", 1.0) < 1.0:
                p = drawn_from.exp()
                outside = torch.tensor([p[p > q].sum() >= body["top_p"] for q in p])
                drawn_from = torch.log_softmax(drawn_from.masked_fill(outside, -torch.inf), -1)
            token = int(torch.multinomial(drawn_from.exp(), 1, generator=generator))
            ids.append(token)
            logprobs.append(float((drawn_from if self.options["processed"] else raw)[token]))
            if token in body.get("stop_token_ids", ()):
                reason = "stop"
                break
        tokens = ids[len(body["prompt"]) :]
        choice = {"index": 0, "text": "?", "logprobs": {"token_logprobs": logprobs, "tokens": ["?"] * len(tokens)}}
        choice |= {
            "finish_reason": reason,
            "stop_reason": None,
            "token_ids": tokens,
            "prompt_token_ids": body["prompt"],
        }
        return _json({"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": [choice]})


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, mimetype="application/json")


def _error(message: str, status: int) -> Response:
    error = {"message": message, "type": "NotFoundError" if status == 404 else "InternalServerError"}
    return _json({"error": error | {"param": None, "code": status}}, status)
