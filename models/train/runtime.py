"""Runs the exported files with ONNX Runtime on the CPU, as a node would, to evaluate them.

Padding side and variant are read from the file's metadata, as the engine reads them.
"""

import pathlib

import numpy as np
import onnxruntime

import tokenizer as tokenizers


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class Model:
    def __init__(self, path: pathlib.Path, threads: int = 2):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        properties = self.session.get_modelmeta().custom_metadata_map
        self.left = properties["infera.padding"] == "left"
        self.caches = [(i.name, i.shape[1], i.shape[3]) for i in self.session.get_inputs()[3:]]
        self.outputs = [o.name for o in self.session.get_outputs()]

    def run(self, ids, mask, positions, past):
        feed = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        feed |= {name: value for (name, _, _), value in zip(self.caches, past, strict=True)}
        logits, *present = self.session.run(self.outputs, feed)
        return logits, present

    def prefill(self, sequences: list[list[int]]):
        """(logits [batch, width, vocabulary], caches, mask, index of each row's first token)"""
        lengths = np.array([len(sequence) for sequence in sequences])
        width = int(lengths.max())
        starts = width - lengths if self.left else np.zeros_like(lengths)
        ids = np.full((len(sequences), width), tokenizers.PAD, np.int64)
        mask = np.zeros_like(ids)
        for row, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
            ids[row, start : start + len(sequence)] = sequence
            mask[row, start : start + len(sequence)] = 1
        positions = np.clip(np.arange(width)[None] - starts[:, None], 0, None).astype(np.int64)
        empty = [np.zeros((len(sequences), heads, 0, size), np.float32) for _, heads, size in self.caches]
        logits, past = self.run(ids, mask, positions, empty)
        return logits, past, mask, starts

    def generate(self, prompts: list[list[int]], most_new: int = 40, batch: int = 64):
        """Greedy: for each prompt (new ids with the end mark, logits [new, vocabulary])."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        results: list = [None] * len(prompts)
        for begin in range(0, len(order), batch):
            chosen = order[begin : begin + batch]
            for i, result in zip(chosen, self._generate_batch([prompts[i] for i in chosen], most_new), strict=True):
                results[i] = result
        return results

    def _generate_batch(self, prompts, most_new):
        lengths = np.array([len(prompt) for prompt in prompts])
        logits, past, mask, starts = self.prefill(prompts)
        last = logits[np.arange(len(prompts)), starts + lengths - 1]
        tokens, scores = [[] for _ in prompts], [[] for _ in prompts]
        for step in range(most_new):
            chosen = last.argmax(-1)
            for row, token in enumerate(chosen):
                if not tokens[row] or tokens[row][-1] != tokenizers.EOS:
                    tokens[row].append(int(token))
                    scores[row].append(last[row])
            if all(row[-1] == tokenizers.EOS for row in tokens):
                break
            positions = (lengths + step)[:, None].astype(np.int64)
            if self.left:
                mask = np.concatenate([mask, np.ones((len(prompts), 1), np.int64)], 1)
            else:
                # Right padding: a row's keys are contiguous from its start; the mask counts them.
                mask = (np.arange(int(positions.max()) + 1)[None] <= positions).astype(np.int64)
            logits, past = self.run(chosen[:, None].astype(np.int64), mask, positions, past)
            last = logits[:, 0]
        return [(ids, np.stack(rows)) for ids, rows in zip(tokens, scores, strict=True)]

    def score(self, sequences: list[list[int]], batch: int = 64):
        """Logits [length, vocabulary] of each sequence, by one prefill."""
        found = []
        for begin in range(0, len(sequences), batch):
            group = sequences[begin : begin + batch]
            logits, _, _, starts = self.prefill(group)
            found += [
                logits[row, start : start + len(ids)]
                for row, (ids, start) in enumerate(zip(group, starts, strict=True))
            ]
        return found
