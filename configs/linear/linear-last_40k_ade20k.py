# linear_40k_ade20k.py on the last map alone: what a classifier of pictures would see.
_base_ = "linear_40k_ade20k.py"

model = dict(decode_head=dict(in_channels=512, in_index=3))
