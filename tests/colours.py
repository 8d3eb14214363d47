"""Luminance of a colour in the form that browsers use, such as `rgb(1, 2, 3)`."""

import numpy as np


def luminance(colour):
    channels = np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
