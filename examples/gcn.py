"""Who sides with whom in a karate club, from its friendships: a graph convolutional network.

Of 34 members, the instructor's and the president's sides alone are known. Each layer mixes a
member's numbers with those of its friends, so that the two sides spread through the club. It then
split in two, and the truth is where each member went.

T. Kipf and M. Welling, "Semi-supervised classification with graph convolutional networks", 2016;
W. Zachary, "An information flow model for conflict and fission in small groups", 1977 (the data).

Reaches 31 of the other 32 members in 1 s.
"""

from __future__ import annotations

import argparse

import numpy as np

import needle as ndl
from needle import nn
from needle.nn import functional as F
from needle.optim import Adam

FRIENDS = {  # of each member, those with larger numbers
    0: "1 2 3 4 5 6 7 8 10 11 12 13 17 19 21 31", 1: "2 3 7 13 17 19 21 30",
    2: "3 7 8 9 13 27 28 32", 3: "7 12 13", 4: "6 10", 5: "6 10 16", 6: "16", 8: "30 32 33",
    9: "33", 13: "33", 14: "32 33", 15: "32 33", 18: "32 33", 19: "33", 20: "32 33", 22: "32 33",
    23: "25 27 29 32 33", 24: "25 27 31", 25: "31", 26: "29 33", 27: "33", 28: "31 33",
    29: "32 33", 30: "32 33", 31: "32 33", 32: "33",
}  # fmt: skip
WITH_INSTRUCTOR = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 16, 17, 19, 21]
KNOWN = [0, 33]  # the instructor and the president


def club() -> tuple[np.ndarray, np.ndarray]:
    """The normalized adjacency D^(-1/2)·(A + I)·D^(-1/2), and the side of each member."""
    adjacency = np.eye(34, dtype="float32")
    for member, friends in FRIENDS.items():
        for friend in map(int, friends.split()):
            adjacency[member, friend] = adjacency[friend, member] = 1
    scale = adjacency.sum(1) ** -0.5
    sides = np.ones(34, dtype="int64")
    sides[WITH_INSTRUCTOR] = 0
    return scale[:, None] * adjacency * scale, sides


class GraphConvolution(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: ndl.Tensor, adjacency: ndl.Tensor) -> ndl.Tensor:
        """Nodes (N, inputs) and edges (N, N) → nodes (N, outputs)."""
        return adjacency @ self.linear(x)


class GCN(nn.Module):
    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.conv1 = GraphConvolution(inputs, hidden)
        self.conv2 = GraphConvolution(hidden, hidden)
        self.conv3 = GraphConvolution(hidden, classes)

    def forward(self, x: ndl.Tensor, adjacency: ndl.Tensor) -> ndl.Tensor:
        x = F.relu(self.conv1(x, adjacency))
        x = F.relu(self.conv2(x, adjacency))
        return self.conv3(x, adjacency)


def train_step(
    model: GCN, optimizer: Adam, x: ndl.Tensor, adjacency: ndl.Tensor, sides: ndl.Tensor
) -> ndl.Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x, adjacency)[KNOWN], sides[KNOWN])
    loss.backward()
    optimizer.step()
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few seconds, as in the tests")
    parser.add_argument("--eager", action="store_true", help="do not compile the step")
    args = parser.parse_args()
    ndl.manual_seed(0)
    edges, truth = club()
    adjacency, sides = ndl.tensor(edges), ndl.tensor(truth)
    x = ndl.eye(34)  # members are told apart by number alone
    model = GCN(34, 16, 2)
    optimizer = Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    step = train_step if args.eager else ndl.jit(train_step)
    for i in range(1, 201):
        loss = step(model, optimizer, x, adjacency, sides)
        if i % 50 == 0:
            with ndl.no_grad():
                right = (model(x, adjacency).argmax(1) == sides).sum().item() - len(KNOWN)
            print(f"step {i}: loss {loss:.4f}, {right} of 32 members")
    assert edges.astype(bool).sum() == 34 + 2 * 78
    assert right >= 27


if __name__ == "__main__":
    main()
