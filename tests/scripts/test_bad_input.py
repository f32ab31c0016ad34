"""What a person gets wrong, in all programs: one line that names it, status 2, nothing written or lost."""
import os
import shlex
import signal
import stat

import pytest
from bad_input_world import SLY, make_world
from helpers import ROOT, write_class_folders

TRAIN, LOOK, CONVERT, DEMO, TABLES, SCORES, REPORT = FILES = (
    'n_fold_train', 'visualize', 'chainer_abn/convert', 'chainer_abn/demo', 'chainer_abn/tables/__main__',
    'chainer_abn/scores/__main__', 'chainer_abn/report/__main__')
PROGRAMS = dict(zip(FILES, ('n_fold_train.py', 'visualize.py', 'chainer_abn.convert', 'chainer_abn.demo',
                            'chainer_abn.tables', 'chainer_abn.scores', 'chainer_abn.report'), strict=True))
HUGE = 400 * '9'
LONG = 300 * 'x'                # no file can have that name
DIGITS = 5000 * '9'             # Python reads no number of so many

# program and what begins the command line: what is wrong with its end, and words of the line that says so
WRONG = {
    (TRAIN, ''): {
        '': '--dataset is missing: a folder of class folders, or shapes',
        '--dataset': 'argument --dataset: expected one argument',
        '--resume nowhere': 'nowhere: no run there (nowhere/config.json is missing)',
        '--resume text': 'text/config.json: unreadable',
        '--resume pipe': 'pipe/config.json: unreadable',
        '--resume folder': 'folder: no run there',
        '--resume dangling': 'dangling: no run there',
        '--resume loop': 'loop/config.json: unreadable',
        "--resume ''": "--resume '': empty",
        '--resume run/config.json': 'config.json/config.json: unreadable',
        '--resume run --out other': '--out: ',
        '--resume run --resume folder': 'folder: no run there',
        '--resume run --epoch 5': '--epoch',
        '--resume run --force --kfold 3': '--kfold 3: the files of run are named by its 2 folds',
        '--resume run --dataset images': '--dataset',
        '--resume runs/moved': '--dataset nowhere: no such folder',
        '--resume runs/changed': 'runs/changed: ',
        '--resume runs/photos': 'runs/photos: ',
        '--resume runs/linked --force': 'runs/linked/tensorboard: a link, and a run is not gone on with',
        '--dataset . -a resnet8': '--out result: lies in --dataset .; name a folder',
        '--summary': '--summary: --arch is missing',
        '--summary -a resnet9': "unknown architecture 'resnet9': nearest are resnet8",
        f'--summary -a resnet{DIGITS}': 'unknown architecture',
        '--summary -a wrn-16-99999': "unknown architecture 'wrn-16-99999'",
        '--summary -a resnet8 --image-size 3': '--image-size [3, 3]: must be at least 16 px',
        '--summary -a resnet8 --image-size 1000000': '--image-size 1000000x1000000: more than 4096 px',
        '--summary -a resnet8 --dropout 2': 'dropout 2.0: resnet8 has none',
        '--summary --pretrained text': '--pretrained text: --arch is missing',
    },
    (TRAIN, '-a resnet8 --image-size 16 -k 2 -e 1 -b 3 -g -1 --threads 1 --dataset images --out new'): {
        '--dataset nowhere': ('--dataset nowhere: no such folder', 'shapes'),
        '--dataset text': '--dataset text: is no folder',
        '--dataset pipe': '--dataset pipe: is no folder',
        '--dataset /dev/zero': '--dataset /dev/zero: is no folder',
        '--dataset dangling': '--dataset dangling: no such folder',
        '--dataset loop': '--dataset loop: no such folder',
        f'--dataset {shlex.quote(SLY)}': '--dataset sly?[2J ?.png: is no folder',
        '--dataset folder': 'folder: no class folder in it',
        '--dataset flat': 'flat: no class folder in it',
        '--dataset single': 'only one class folder (ant)',
        '--dataset none': "class 'cat' has no image",
        '--dataset piped': "class 'bee' has no image",
        '--dataset small': "class 'cat' has 1 of the 12 images, fewer than the 2 folds",
        '--dataset truncated': ('bee/photo.jpg: unreadable image', '--skip-bad'),
        '--dataset gone': 'gone/cat: a link to nothing; remove it, or bring the folder that it leads to',
        '--dataset pointers --skip-bad': 'none of the 2 images can be read, such as pointers/ant/0.png: ',
        '--dataset no-image': ('bee/text.png: not an image', '--skip-bad'),
        '--dataset images -k 0': 'images: no folder train in it',
        '--dataset parts': 'parts: train, val are parts, not classes: --kfold 0',
        '--dataset parts -k 0': 'classes in one of the two parts only: ant, cat',
        '--dataset shapes -a vgg': "unknown architecture 'vgg'",
        '--dataset shapes --n-images 3': "class 'square' has 0 of the 3 images",
        '--dataset faces --variant cam --n-images 8': '--variant cam',
        '--dataset faces --attention log-sum --n-images 8': '--attention log-sum',
        '--dataset cifar10 --data-dir folder': 'folder: neither cifar-10-binary.tar.gz nor',
        '--dataset cifar10 --data-dir text': 'text: neither cifar-10',
        '--dataset cifar100 --data-dir nowhere': 'nowhere: neither cifar-100',
        '--dataset svhn --data-dir folder': ('folder/train_32x32.mat', 'http'),
        '--dataset imagenet': ('imagenet', '--data-dir', 'image-net.org'),
        '--dataset imagenet --data-dir folder': 'folder/train: no such folder',
        '--dataset compcars': ('compcars', '--data-dir', 'comp_cars'),
        '--dataset compcars --data-dir folder': 'folder: neither image/ nor',
        '--dataset compcars --task colour': ('--task', 'colour', 'maker'),
        '--dataset celeba': ('celeba', '--data-dir', 'CelebA.html'),
        '--dataset celeba --data-dir folder': 'folder: no list_attr_celeba.txt',
        '--task maker': '--task: is for --dataset compcars',
        '--boxes': '--boxes: is for --dataset compcars',
        '--arch resnet21': ("'resnet21'", 'resnet20'),
        "--arch ''": "--arch '': empty",
        '--variant abm': ('--variant', 'abm'),
        '--attention sum': ('--attention', 'sum'),
        '--variant baseline --attention multiply': '--attention: a baseline network has no map',
        '--variant cam --positive-map': '--positive-map: a cam network has no map',
        '--attention log-sum --positive-map': '--positive-map: a log-sum map is positive by itself',
        '--batchsize 0': '--batchsize 0: must be at least 1',
        **{f'--{name} {HUGE}': f'--{name} 99999999999999999999...: beyond 32 bits'
           for name in ('batchsize', 'epoch', 'kfold', 'seed', 'n-images', 'pad', 'image-size', 'resize',
                        'milestones', 'snapshot-every', 'max-pixels', 'workers')},
        '--snapshot-every 0': '--snapshot-every 0: must be at least 1',
        '--max-pixels 0': '--max-pixels 0: must be at least 1',
        '--max-pixels 100': ('0.png: claims to have ', '--max-pixels'),
        '--force': '--force: goes with --resume',
        '--mean nan,0,0': '--mean nan: not a finite number',
        '--mean 1e400,0,0': '--mean inf: not a finite number',
        '--std nan,1,1': '--std nan: not a finite number',
        '--std inf,1,1': '--std inf: not a finite number',
        '--pretrained pipe': '--pretrained pipe: is no file',
        '--pretrained /dev/zero': '--pretrained /dev/zero: is no file',
        "--out ''": "--out '': empty",
        '--out images': '--out images: lies in --dataset images',
        '--out images/ant': '--out images/ant: lies in --dataset images',
        '--workers 4000': '--workers 4000: more than 128',
        '--resize 30000': '--resize 30000x30000: more than 4096 px a side',
        '--batchsize 7': '--batchsize 7: more than the 6 training images',
        f'--batchsize {DIGITS}': 'argument --batchsize/-b: invalid int value',
        '--epoch 0': '--epoch 0: must be at least 1',
        '--epoch -3': '--epoch -3: must be at least 1',
        '--epoch ten': ('--epoch', 'ten'),
        '--epoch 1e3': ('--epoch', '1e3'),
        "--epoch ''": 'argument --epoch/-e: invalid int value',
        '--epoch ²': ('--epoch', '²'),
        '--epoch 1 2': 'unrecognized arguments: 2',
        '--kfold 1': '--kfold 1',
        '--kfold -2': '--kfold -2',
        '--kfold 10001': '--kfold 10001: more than 10000',
        '--kfold 7': 'class \'ant\' has 6 of the 12 images, fewer than the 7 folds',
        '--folds 1,3': '--folds 3: there are 2 folds',
        '--folds 0': '--folds',
        '--folds 1,,2': '--folds',
        '--seed -1': '--seed -1',
        '--seed 4294967296': '--seed 4294967296: must be below 2^32',
        '--n-images 1': '--n-images 1: fewer than the 2 classes',
        '--n-images -1': 'n-images must be at least 1, not -1',
        '--workers -1': '--workers -1',
        '--threads 0': '--threads 0: must be at least 1',
        '--threads 99999': '--threads 99999: more than 1024',
        '--gpu 99': '--gpu 99: no such GPU',
        '--gpu -2': '--gpu -2: no such GPU',
        '--gpu 0,': ('--gpu', '0,'),
        '--gpu 0,0': '--gpu 0,0: GPU 0 is named twice',
        '--gpu -1,0': '--gpu -1,0: ',
        '--accelerator mkl': ('--accelerator', 'mkl', 'auto', 'off'),
        '--capture': '--capture: is for a GPU',
        '--dtype float64': ('--dtype', 'float64'),
        '--lr 0': '--lr 0: must be more than 0',
        '--lr -0.5': '--lr -0.5',
        '--lr nan': '--lr nan',
        '--lr 1e400': '--lr inf',
        '--lr=': 'argument --lr: invalid float value',
        '--momentum -1': '--momentum -1',
        '--weight-decay inf': '--weight-decay inf',
        '--gamma nan': '--gamma nan',
        '--warmup -1': '--warmup -1',
        '--rotate 1e400': '--rotate inf',
        '--dropout 2': 'dropout 2.0: resnet8 has none',
        '--milestones 3,x': '--milestones',
        '--milestones 3,0': '--milestones 0: must be at least 1',
        '--milestones 3 --schedule cosine': '--milestones: a cosine schedule has none',
        '--out runs/configless': '--out runs/configless: holds a run without its config.json',
        '--schedule linear': ('--schedule', 'linear'),
        '--recipe mine': ('--recipe', 'mine', 'paper', 'original'),
        '--image-size 8': ('--image-size', '16 px'),
        '--image-size big': ('--image-size', 'big'),
        '--image-size 16x': ('--image-size', '16x'),
        '--image-size 16x16x16': ('--image-size', '16x16x16'),
        '--resize 12': '--resize: smaller than --image-size',
        '--turn --image-size 16x24': '--turn: needs a square --image-size',
        '--pad -1': '--pad -1',
        '--mean 1,2': '--mean',
        '--mean x,y,z': '--mean',
        '--std 1,0,1': '--std: must be more than 0',
        '--crop resized --pad 2': '--pad 2: a resized crop needs none',
        '--crop resized --fit squeeze': '--fit squeeze',
        '--freeze head': ('--freeze', 'head'),
        '--epochs-of-fame 3': '--epochs-of-fame',
        '--b 3': 'unrecognized arguments: --b 3',
        'images': 'unrecognized arguments: images',
        '--pretrained nowhere': '--pretrained nowhere: No such file',
        '--pretrained text': '--pretrained text: not a PyTorch checkpoint',
        '--pretrained noise': '--pretrained noise: not a PyTorch checkpoint',
        '--pretrained empty': '--pretrained empty: not a PyTorch checkpoint',
        '--pretrained folder': '--pretrained folder: Is a directory',
        '--pretrained dangling': '--pretrained dangling: No such file',
        '--pretrained cut.npz': '--pretrained cut.npz: ',
        '--pretrained cut.pth': '--pretrained cut.pth: ',
        '--pretrained hostile.pth': '--pretrained hostile.pth: refused, it is not weights only',
        '--pretrained config-list.npz': 'config-list.npz: not a network of chainer_abn',
        '--pretrained net.npz -a resnet14': 'net.npz: a resnet8, not a resnet14',
        '--pretrained net.npz -a resnet50_fine': 'net.npz: a resnet8, not a resnet50_fine',
        '--out text': '--out text: File exists',
        '--out text/new': '--out text/new: Not a directory',
        '--out pipe': '--out pipe: File exists',
        '--out dangling': '--out dangling: File exists',
        '--out loop': '--out loop: ',
        '--out /dev/null': '--out /dev/null: File exists',
        '--out /proc/new': '--out /proc/new: No such file',
        f'--out {LONG}': 'File name too long',
        '--out run': '--out run: holds a run already',
    },
    (LOOK, ''): {
        '': '--model',
        'photos/p0.png --out new': '--model',
        '--model': 'argument --model: expected one argument',
        '--model net.npz --out new': 'INPUT is missing',
        '--model net.npz photos/p0.png': '--out is missing',
        "--model net.npz photos/p0.png --out ''": "--out '': empty",
    },
    (LOOK, '--out new -g -1 photos/p0.png --model'): {
        'pipe': 'pipe: is no file',
        '/dev/zero': '/dev/zero: is no file',
        'nowhere': 'nowhere: No such file',
        "''": "--model '': empty",
        'text': 'text: not an .npz file',
        'empty': 'empty: not an .npz file',
        'noise': 'noise: not an .npz file',
        'folder': 'folder: Is a directory',
        'dangling': 'dangling: No such file',
        'loop': 'loop: Too many levels of symbolic links',
        shlex.quote(SLY): 'sly?[2J ?.png: not an .npz file',
        'net.pth': 'net.pth: not a network of chainer_abn',
        'cut.npz': 'cut.npz: not an .npz file, or cut short',
        'no-config.npz': 'no-config.npz: not a network of chainer_abn',
        'config-list.npz': 'config-list.npz: not a network of chainer_abn',
        'config-classes.npz': 'config-classes.npz: not a network of chainer_abn',
        'config-size.npz': 'config-size.npz: not a network of chainer_abn',
        'config-std.npz': 'config-std.npz: not a network of chainer_abn',
        'config-channels.npz': 'config-channels.npz: ',
        'config-arch.npz': "config-arch.npz: unknown architecture 'resnet9'",
        'config-more.npz': 'config-more.npz: the array ',
        'pickled.npz': 'pickled.npz: unreadable .npz file',
        'bomb.npz': 'bomb.npz: ',
    },
    (LOOK, '--model net.npz --out new -g -1'): {
        'nowhere.png': 'nowhere.png: no such file or folder',
        "''": 'no such file or folder',
        'dangling': 'dangling: no such file or folder',
        'text': 'text: not an image',
        'empty': 'empty: not an image',
        'net.npz': 'net.npz: not an image',
        shlex.quote(SLY): 'sly?[2J ?.png: not an image',
        'pipe': 'pipe: neither a file nor a folder',
        '/dev/zero': '/dev/zero: neither a file nor a folder',
        'folder': 'folder: no image in this folder',
        'piped/bee': 'piped/bee: no image in this folder',
        'photos/p0.png clip.mp4': 'clip.mp4: not a video',
    },
    (LOOK, '--model net.npz photos/p0.png --out new -g -1'): {
        "--method ''": "--method '': empty",
        "--edit ''": "--edit '': empty",
        '--edit pipe': 'pipe: unreadable image (is no file)',
        '--edit box:5,5,5,5': '--edit box:5,5,5,5: empty',
        '--max-pixels 0': '--max-pixels 0: must be at least 1',
        '--method magic': '--method magic: unknown; use attention',
        '--method cam,magic': '--method magic: unknown',
        '--method ,': '--method : unknown',
        '--model baseline.npz --method attention': 'no attention branch (it is a baseline or CAM variant)',
        '--class clas': '--class clas: the network has no such class; nearest of its 2',
        '--class 2': '--class 2: the network has no such class',
        '--class -1': '--class -1: the network has no such class',
        '--class ²': '--class ²: the network has no such class',
        f'--class {DIGITS}': '--class 9999',
        '--model tasks.npz --class ant': '--class ant: the network is one of several tasks',
        '--attributes Smiling': '--attributes Smiling: the network tells classes',
        '--model tasks.npz --attributes Smiling': '--attributes Smiling: the network has no such attribute',
        '--layer nowhere': '--layer nowhere: is for --method grad-cam',
        '--layer stage --method grad-cam': '--layer stage: the network has no such layer; nearest are ',
        '--edit nowhere.png': 'nowhere.png: no such file',
        '--edit text': 'text: not an image',
        '--edit folder': 'folder: unreadable image',
        '--edit box:1,2,3': '--edit box:1,2,3: not box:x0,y0,x1,y1',
        f'--edit box:0,0,1,{DIGITS}': '--edit box:0,0,1,9999',
        '--edit centre --method cam': '--method cam: --edit is about the attention map',
        '--edit centre --mode mix': '--mode',
        '--model baseline.npz --edit centre': '--edit: the network has no attention branch',
        '--model mapless.npz --edit centre': '--edit: the network does not use its map',
        '--mode add': '--mode add: is for --edit',
        '--alpha 2': '--alpha 2.0: must be between 0 and 1',
        '--alpha -0.1': '--alpha -0.1: must be between 0 and 1',
        '--alpha nan': '--alpha nan: not a finite number',
        '--colormap jett': '--colormap jett',
        '--interpolation cubic': '--interpolation',
        '--batchsize 0': '--batchsize 0: must be at least 1',
        '--gpu 99': '--gpu 99: no such GPU',
        '--threads 0': '--threads 0: must be at least 1',
        '--bogus': 'unrecognized arguments: --bogus',
        '--grid 3': 'unrecognized arguments: 3',
        '--resume': '--resume: new holds no pictures to go on with',
        '--resume --out run': '--resume: run holds no pictures to go on with',
        '--out text': '--out text: File exists',
        '--out text/new': '--out text/new: Not a directory',
        '--out dangling': '--out dangling: ',
        '--out pipe': '--out pipe: ',
        '--out /proc/new': '--out /proc/new: ',
        f'--out {LONG}': 'File name too long',
    },
    (LOOK, '--model net.npz photos'): {
        '--out photos': '--out photos: is one of the folders to read',
    },
    (CONVERT, ''): {
        '': 'file, out',
        'net.pth': 'out',
        'net.pth new': '--arch is missing',
        'net.pth new -a resnet8 more': 'unrecognized arguments: more',
        'net.npz new --to-torch --classes text': '--classes: a PyTorch checkpoint has no names',
        'net.npz new --to-torch -a resnet14': '--arch resnet14: net.npz is resnet8',
        'net.npz new --to-torch --variant cam': '--variant cam: net.npz is abn',
        'net.pth new --to-torch': 'net.pth: not a network of chainer_abn',
        'text new --to-torch': 'text: not an .npz file',
        'pipe new --to-torch': 'pipe: is no file',
        '/dev/zero new --to-torch': '/dev/zero: is no file',
        'tasks.npz new --to-torch': 'a multi-task resnet8 has no PyTorch network',
        'net.npz net.npz --to-torch': 'net.npz: is the file to read',
        'net.npz text/new --to-torch': 'text/new: Not a directory',
        'net.npz pipe --to-torch': 'pipe: is no file',
        'net.npz new -a resnet8 --variant abn': '--variant can be told of a PyTorch file only',
        'net.npz new -a resnet14': 'net.npz: a resnet8, not a resnet14',
        'nowhere new -a resnet8': 'nowhere: No such file',
        "'' new -a resnet8": ': No such file',
        'text new -a resnet8': 'text: not a PyTorch checkpoint',
        'empty new -a resnet8': 'empty: not a PyTorch checkpoint',
        'noise new -a resnet8': 'noise: not a PyTorch checkpoint',
        'folder new -a resnet8': 'folder: is no file',
        'pipe new -a resnet8': 'pipe: is no file',
        '/dev/zero new -a resnet8': '/dev/zero: is no file',
        'dangling new -a resnet8': 'dangling: is no file',
        'cut.pth new -a resnet8': 'cut.pth: not a PyTorch checkpoint, or cut short',
        'photos/p0.png new -a resnet8': 'photos/p0.png: not a PyTorch checkpoint',
        'hostile.pth new -a resnet8': ('refused, it is not weights only', 'mkdir'),
        'no-config.npz new -a resnet8': 'no-config.npz: not a network of chainer_abn',
        'net.pth net.pth -a resnet8': 'net.pth: is the file to read',
        'net.pth ./net.pth -a resnet8': './net.pth: is the file to read',
        'net.pth folder -a resnet8': 'folder: is no file',
        'net.pth loop -a resnet8': 'loop: is no file',
        'net.pth dangling -a resnet8': 'dangling: is no file',
        'net.pth /dev/null -a resnet8': '/dev/null: is no file',
        'net.pth /proc/new -a resnet8': '/proc/new: No such file',
        'net.pth nowhere/new -a resnet8': 'nowhere/new: No such file',
        "net.pth '' -a resnet8": ': No such file',
        f'net.pth {LONG} -a resnet8': 'File name too long',
    },
    (CONVERT, 'net.pth new -a resnet8'): {
        '-a resnet14': 'does not fit resnet14 (abn): missing: layer1.1.conv1.weight, ',
        '-a resnet9': "unknown architecture 'resnet9'",
        '-a resnet50_fine': 'resnet50_fine has no PyTorch weights',
        '--variant baseline': ('left over: ', 'att_layer3.0.conv1.weight'),
        '--variant baseline --attention multiply': '--attention multiply: a baseline network has none',
        '--attention log-sum': 'left over: att_conv3.weight',
        '--classes text': 'has 2 classes, not the 1',
        '--classes empty': 'has 2 classes, not the 0',
        '--classes nowhere': '--classes nowhere: No such file',
        '--classes latin': "--classes latin: 'utf-8' codec can't decode",
        '--classes folder': 'folder: is no file',
        '--classes pipe': 'pipe: is no file',
        '--classes /dev/zero': '/dev/zero: is no file',
        '--classes vast': '--classes vast: more than 16777216 characters',
    },
    (DEMO, ''): {
        '': 'run',
        'run more': 'unrecognized arguments: more',
        'nowhere': 'nowhere: no run there',
        'text': 'text/config.json: unreadable',
        'folder': 'folder: no run there',
        'runs/unfinished': 'no fold is finished yet',
        'runs/photos': 'a run on images; this needs the masks of shapes or faces',
        'runs/changed': 'shapes does not hold the images any more',
        'runs/picture-folder': 'cannot write runs/picture-folder/attention.png: Is a directory',
        'runs/config-other-version': 'a run on what its config does not tell',
    },
    (REPORT, ''): {
        '': 'run',
        'run more': 'unrecognized arguments: more',
        'nowhere': 'nowhere: no run there',
        'pipe': 'pipe/config.json: unreadable',
        'dangling': 'dangling: no run there',
        'runs/report-folder': 'runs/report-folder/report.html: Is a directory',
        'runs/config-other-version': 'damaged (it does not tell dataset, data_dir, ',
    },
    (TABLES, ''): {
        '': 'action',
        'lst': ('action', 'lst'),
        'list table5': 'table5',
        'list table1 more': 'unrecognized arguments: more',
        'list -- -b 3': 'list: takes no flags of n_fold_train.py',
        'show': 'table',
        'show table5': 'table5',
        'show demo --rows resnet20': 'unrecognized arguments: --rows resnet20',
        'show demo -- -b 3': 'show: takes no flags of n_fold_train.py',
        'show demo --out text': '--out text: ',
        'show demo --out text/new': '--out text/new: Not a directory',
        'show demo --out dangling': '--out dangling: ',
        'show demo --out loop': '--out loop: ',
        'show demo --out /proc/new': '--out /proc/new: No such file',
        "show demo --out ''": "--out '': empty",
        f'show demo --out {LONG}': 'File name too long',
        'run table5': 'table5',
        'run table2 --rows attentionnext': 'the paper only quotes AttentionNeXt; nothing to train',
        'run table3 -- --task maker': '-- --task: is set for each run; choose --rows',
    },
    (TABLES, 'run table1 --gpu -1 --out new'): {
        '--rows': 'argument --rows: expected at least one argument',
        '--rows resnet21': '--rows resnet21: fits none of table1: resnet20/baseline, ',
        "--rows '['": '--rows [: fits none of table1',
        '--epochs-scale 0': '--epochs-scale: 0: must be more than 0',
        '--epochs-scale nan': '--epochs-scale: nan: must be more than 0',
        '--epochs-scale 1e400': '--epochs-scale: 1e400: must be more than 0',
        '--epochs-scale x': ('--epochs-scale', 'x'),
        '--seeds 1,x': '--seeds',
        '--seeds ,': '--seeds',
        '--seeds 1,-2': '--seeds: -2: must be at least 0',
        '--seeds 4294967296': '--seeds: 4294967296: must be at least 0 and below 2^32',
        f'--seeds {DIGITS}': '--seeds',
        '-- --out x': '-- --out: is set for each run; give --out before the --',
        '-- --seed=3': '-- --seed: is set for each run; give --seeds',
        '-- -r x': '-- --resume: is set for each run; leave it out',
        '-- -a resnet8': '-- --arch: is set for each run; choose --rows',
        '-- --dataset shapes': '-- --dataset: is set for each run; give --dataset before the --',
        '--out text': '--out: text/resnet20/baseline/seed-402: Not a directory',
        '--out dangling': '--out: dangling/resnet20/baseline/seed-402: ',
        '--out /proc/new': '--out: /proc/new/resnet20/baseline/seed-402: ',
    },
    (SCORES, ''): {
        '': '--out',
        '--out new': 'name either --run DIR or --model FILE',
        '--out new --run': 'argument --run: expected at least one argument',
        '--out new --run run --model net.npz': 'name either --run DIR or --model FILE',
        '--out new --model net.npz': '--model and --images go together',
        '--out new --model net.npz --images photos': 'it is not known where the objects are',
        '--out new --run nowhere': 'nowhere: no run there',
        '--out new --run text': 'text/config.json: unreadable',
        '--out new --run runs/unfinished': 'runs/unfinished: no fold is finished yet',
        '--out new --run runs/photos': 'runs/photos: ',
        '--out new --run runs/moved': 'runs/moved: its data set cannot be opened',
        '--out new --run runs/changed': 'shapes does not hold the images any more',
        '--out new --run runs/config-other-version': 'not a run of this program',
        '--out new --run run --boxes boxes': 'has no box or mask',
        '--out text --run run': '--out text: text is no folder',
    },
    (SCORES, '--model net.npz --images photos/p0.png --boxes boxes --out new -g -1'): {
        '--model pipe': 'pipe: is no file',
        '--model /dev/zero': '/dev/zero: is no file',
        "--out ''": "--out '': empty",
        '--images nowhere': 'nowhere: no such file or folder',
        '--images text': 'text: not an image',
        '--images folder': 'folder: no image in this folder',
        '--images pipe': 'pipe: neither a file nor a folder',
        '--images photos': ('p4.png: has no box or mask', '--missing skip'),
        '--images photos/p4.png --missing skip': 'and no other image has one',
        '--images photos/p1.png': 'p1.xml: the box 3,5,99,9 lies outside its image of 32 x 40 px',
        '--images photos/p2.png': 'p2.xml: has a document type',
        '--images photos/p3.png': 'p3.xml: not well-formed XML',
        '--model text': 'text: not an .npz file',
        '--model cut.npz': 'cut.npz: not an .npz file',
        '--model tasks.npz': 'tasks.npz: a multi-task network',
        '--model baseline.npz --method attention': 'no attention branch',
        '--boxes nowhere': '--boxes nowhere: no such folder',
        '--boxes pipe': '--boxes pipe: no such folder',
        '--masks masks': '--boxes and --masks: name one of them',
        '--run run': 'name either --run DIR or --model FILE',
        '--void 3': '--void: is for --masks',
        '--object 3': '--object: is for --masks',
        '--missing maybe': '--missing',
        '--method magic': '--method magic: unknown',
        '--layer nowhere': '--layer nowhere: the network has no such layer',
        '--layer stage --method cam': '--layer stage: is for --method grad-cam and grad-cam++',
        '--n 0': '--n 0: must be at least 1',
        f'--n {DIGITS}': 'argument --n: invalid int value',
        '--seed -1': '--seed -1: must be at least 0',
        '--steps -1': '--steps -1: must be at least 0',
        '--tolerance -1': '--tolerance -1.0: must be at least 0',
        '--tolerance nan': '--tolerance nan: not a finite number',
        '--tolerance 1e400': '--tolerance inf: not a finite number',
        '-b 0': '--batchsize 0: must be at least 1',
        '--gpu 99': '--gpu 99: no such GPU',
        '--threads 0': '--threads 0: must be at least 1',
        '--out text/new': 'text is no folder that can be written to',
        '--out dangling/new': 'dangling is no folder that can be written to',
        '--out loop': 'loop is no folder that can be written to',
        '--out pipe': 'pipe is no folder that can be written to',
        '--out /proc/new': '--out /proc/new: ',
        f'--out {LONG}': 'File name too long',
    },
    (SCORES, '--model net.npz --masks masks --out new -g -1 --images'): {
        'photos/p0.png --masks nowhere': '--masks nowhere: no such folder',
        'photos/p0.png --object 256': '--object',
        'photos/p0.png --object x': '--object',
        'photos/p0.png --object 1 --void 1': '--void 1: is a value of --object too',
        'photos/p0.png --object 7': 'p0.png: no pixel of the object in it; its values are 0, 1',
        'photos/p1.png': 'p1.png: has 6 x 5 px, but the image p1 has 32 x 40',
        'photos/p2.png': 'p2.png: no pixel of the object in it',
        'photos/p3.png': 'p3.png: no pixel of the background in it',
        'photos/p4.png': 'p4.png: is of mode RGB',
    },
}

# what reads a run, and the runs that it must refuse by their file
OPENS_RUN = {TRAIN: '--resume', DEMO: '', REPORT: '', SCORES: '--out new --run'}
DAMAGED = {
    **dict.fromkeys(['cut', 'deep', 'bytes'], 'unreadable'), 'digits': '',
    **dict.fromkeys(['list', 'no-arguments', 'arguments-list'], 'not a run of this program'),
    'classes': 'damaged (classes is 5', 'size': "image_size is 'large'", 'versions': 'damaged (versions is 5',
    'forced': 'damaged (forced is 5', 'resize': 'damaged (resize is [32]'}
ARGUMENTS = {'kfold': "'two'", 'folds': '5', 'epoch': '[]', 'seed': '1.5', 'dataset': '5', 'arch': '3',
             'lr': "'fast'", 'batchsize': '{}', 'pad': '1000'}
SUMMARIES = {**dict.fromkeys(['cut', 'empty', 'deep'], 'unreadable'), 'beyond': 'damaged (fold 7 of 2',
             **dict.fromkeys(['list', 'no-accuracy', 'text', 'huge', 'loss', 'epoch'],
                             'damaged (not the accuracies of folds)')}
for file, flag in OPENS_RUN.items():
    WRONG[file, flag] = {
        **WRONG.get((file, flag), {}),
        **{f'runs/config-{name}': (f'runs/config-{name}/config.json: ', said)
           for name, said in DAMAGED.items()},
        'runs/pipe': 'config.json: unreadable (', 'runs/bad-seed': 'config.json: damaged (seed is -3)',
        'runs/no-seed': 'not a run of this program', 'runs/no-dataset': 'not a run of this program',
        **{f'runs/argument-{name}': f'config.json: damaged ({name} is {value}'
           for name, value in ARGUMENTS.items()},
        **{f'runs/summary-{name}': (f'runs/summary-{name}/summary.json: ', said)
           for name, said in SUMMARIES.items()}}
for name, said in {'config-cut': 'config.json: unreadable', 'config-list': 'not a run of this program',
                   'config-other-version': 'of another version of this program'}.items():
    for action in 'show demo', 'run demo --rows resnet20/baseline --seeds 1':
        WRONG[TABLES, ''][f'{action} --out tables/{name}'] = said
WRONG[TABLES, '']['show demo --out tables/summary-cut'] = 'summary.json: unreadable'

CASES = [pytest.param(file, f'{begin} {end}', said, id=f'{PROGRAMS[file]} {end[:40]}')
         for (file, begin), cases in WRONG.items() for end, said in cases.items()]


class Hangs(BaseException):
    """A program waits for what never comes."""


@pytest.fixture(scope='module')
def world(tmp_path_factory, request):
    """The folder that all cases share, since none may change it, and what is in it."""
    root = tmp_path_factory.mktemp('world')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_world()
        yield root, tree()
        os.chmod('closed', 0o700)


@pytest.fixture
def here(world, monkeypatch):
    """The current folder is the world; when the test is over it must be as it was."""
    root, before = world
    monkeypatch.chdir(root)

    def hangs(*_):
        raise Hangs

    handler = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    after = tree()
    assert [path for path in {**before, **after} if before.get(path) != after.get(path)] == []


def tree():
    """Path -> what of it changes when it is written to, of all that is in the current folder."""
    found = {}
    for folder, folders, files in os.walk('.'):
        for path in (os.path.join(folder, name) for name in folders + files):
            what = os.lstat(path)
            found[path] = what.st_mode, what.st_ino
            if not stat.S_ISDIR(what.st_mode):
                found[path] += what.st_size, what.st_mtime_ns, what.st_ctime_ns
    return found


def check(err, program, said):
    assert len(err) == 1 and err[0].startswith(f'{program}: '), err
    assert 'Traceback' not in err[0] and err[0].isprintable()
    for words in [said] if isinstance(said, str) else said:
        assert words in err[0]


@pytest.mark.parametrize('file, line, said', CASES)
def test_one_line_status_2_and_nothing_written_or_lost(script, here, file, line, said):
    result = script(file, *shlex.split(line))
    assert result.status == 2, result
    check(result.err, PROGRAMS[file], said)


@pytest.mark.parametrize('file, line, said', [
    (TRAIN, '--dataset closed', 'closed: Permission denied'),
    (TRAIN, '--dataset images --out closed/new -b 3 --image-size 16', '--out closed/new: Permission denied'),
    (LOOK, '--model locked photos --out new', 'locked: Permission denied'),
    (LOOK, '--model net.npz locked --out new', 'locked: '),
    (CONVERT, 'locked new -a resnet8', 'locked: Permission denied'),
    (CONVERT, 'net.pth closed/new -a resnet8', 'closed/new: Permission denied')])
def test_what_may_not_be_read_or_written(script, here, file, line, said):
    if os.access('locked', os.R_OK):
        pytest.skip('this user may read and write everything')
    result = script(file, *shlex.split(line))
    assert result.status == 2, result
    check(result.err, PROGRAMS[file], said)


@pytest.mark.parametrize('words, program, said', [
    ([ROOT / 'n_fold_train.py', '--dataset', SLY], 'n_fold_train.py', 'sly?[2J ?.png: is no folder'),
    (['-m', 'chainer_abn.runtime', '--fast'], 'chainer_abn.runtime', 'unrecognized arguments: --fast'),
    (['-m', 'chainer_abn.demo', 'runs/summary-cut'], 'chainer_abn.demo', 'summary.json: unreadable')])
def test_in_a_process_of_its_own(python, here, words, program, said):
    result = python(*words, cwd='.')
    assert result.returncode == 2 and result.stdout == ''
    check(result.stderr.splitlines(), program, said)


def test_an_image_that_vanishes_during_training_is_named(script, tmp_path, monkeypatch):
    from chainer_abn.datasets import examples
    from chainer_abn.training.extensions import TimedUpdater
    monkeypatch.setattr(examples.Store.__init__, '__defaults__', (False, 0, 'cover', True))   # none in memory
    update = TimedUpdater.update

    def vanish(self):
        for path in (tmp_path / 'images/ant').glob('*.png'):
            path.unlink()
        update(self)

    monkeypatch.setattr(TimedUpdater, 'update', vanish)
    images = write_class_folders(tmp_path / 'images')
    result = script('n_fold_train', '--dataset', images, '--out', tmp_path / 'run', '--workers', 1, '-g', -1,
                    '-a', 'resnet8', '--image-size', 16, '-k', 2, '-e', 1, '-b', 3)
    assert result.status == 2 and result.err[-1].endswith('.png: no such file')
