import torch
import torch.nn as nn
import torch.nn.functional as F


class LeNet(nn.Module):
    def __init__(self):
        super(LeNet, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        # the images are 28 by 28, what is left of them 4 by 4
        self.fc1 = nn.Linear(16 * 4 * 4, 40)
        self.fc2 = nn.Linear(40, 24)
        self.fc3 = nn.Linear(24, 10)

    def forward(self, img):
        img = F.max_pool2d(F.relu(self.conv1(img)), (2, 2))
        img = F.max_pool2d(F.relu(self.conv2(img)), 2)  # a number means a square
        flat = img.view(-1, self.num_flat_features(img))
        flat = F.relu(self.fc1(flat))
        flat = F.relu(self.fc2(flat))
        return self.fc3(flat)

    def num_flat_features(self, img):
        sizes = img.size()[1:]  # of all axes but the batch
        count = 1
        for size in sizes:
            count *= size
        return count
