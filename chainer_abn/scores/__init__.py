"""How well the maps of trained networks find the object.

    python -m chainer_abn.scores --run result/RUN --boxes BOXES --out OUT
    python -m chainer_abn.scores --model FILE.npz --images photos/ --masks MASKS --out OUT

Every image of a run is judged by the network of the fold that it was held out of. Maps are those of the
predicted class. Prints a table and writes scores.csv, images.csv, scores.png, examples.png and, with
``--steps``, curves.png.
"""
