"""Trains stable-baselines3's PPO on an Atari game: `python train.py breakout --frames=2000000 --output=ppo.csv`.

The hyperparameters are those of RL Baselines3 Zoo for Atari. Needs stable-baselines3, ale-py and opencv-python-headless
in an environment of their own.
"""

import argparse
import collections
import csv
import time

import ale_py
import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

FRAMES_PER_STEP = 4


class Progress(BaseCallback):
    """Writes a row per rollout: the mean return of the last 100 full games, of the unclipped reward."""

    def __init__(self, file):
        super().__init__()
        self.file, self.rows = file, csv.writer(file, lineterminator="\n")
        self.rows.writerow(["seconds", "frames", "episodes", "mean_return_100"])
        self.returns, self.episodes, self.start = collections.deque(maxlen=100), 0, time.monotonic()

    def _on_step(self):
        for info in self.locals["infos"]:
            if "episode" in info:
                self.returns.append(info["episode"]["r"])
                self.episodes += 1
        return True

    def _on_rollout_end(self):
        mean = f"{np.mean(self.returns):.6g}" if self.returns else ""
        seconds = time.monotonic() - self.start
        self.rows.writerow([f"{seconds:.1f}", self.num_timesteps * FRAMES_PER_STEP, self.episodes, mean])
        self.file.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("game")
    parser.add_argument("--frames", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", default="ppo.csv")
    given = parser.parse_args()
    gymnasium.register_envs(ale_py)
    name = "".join(word.capitalize() for word in given.game.split("_"))
    envs = VecFrameStack(
        make_atari_env(f"{name}NoFrameskip-v4", n_envs=8, seed=given.seed, vec_env_cls=SubprocVecEnv), 4
    )
    agent = PPO(
        "CnnPolicy",
        envs,
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        learning_rate=lambda left: 2.5e-4 * left,
        clip_range=lambda left: 0.1 * left,
        vf_coef=0.5,
        ent_coef=0.01,
        seed=given.seed,
        device="cpu",
    )
    print(agent.policy, torch.get_num_threads(), "threads")
    with open(given.output, "w", newline="") as file:
        agent.learn(given.frames // FRAMES_PER_STEP, callback=Progress(file))


if __name__ == "__main__":
    main()
