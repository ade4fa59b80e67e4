"""The local model: arrays into arrays, with no clock, file or network.

Run time needs numpy and safetensors only. The same text gives the same probabilities alone and in a batch, within
1e-5. Everything here may be called from any thread.
"""
