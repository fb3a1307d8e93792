"""Makes the sample base, its adapters and their goldens. See README.md."""

import argparse
import sys
from pathlib import Path

import torch

from common import DEFAULT_TEXTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["base", "adapters", "score", "goldens", "index", "all"])
    parser.add_argument("names", nargs="*", help="adapters to make (default: all)")
    parser.add_argument("--texts", type=Path, default=DEFAULT_TEXTS, help="folder of the training texts")
    parser.add_argument("--steps", type=int, default=4200, help="pretraining steps")
    parser.add_argument("--minutes", type=float, default=600, help="pretraining time limit")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_flush_denormal(True)  # before the first parallel work, so that every thread inherits it
    torch.set_num_threads(args.threads)
    if args.step in ("base", "all"):
        import train_base

        train_base.main(args.texts, args.steps, args.minutes)
    if args.step in ("adapters", "all"):
        import train_adapters

        train_adapters.main(args.names)
    if args.step == "score":  # again, without training
        import train_adapters

        train_adapters.main(args.names, retrain=False)
    if args.step in ("goldens", "all"):
        import goldens

        goldens.main(args.names, args.texts)
    if args.step in ("index", "all"):
        import index

        index.main()


if __name__ == "__main__":
    sys.exit(main())
