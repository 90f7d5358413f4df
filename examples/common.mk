# What the papers' Makefiles share.
#
#   make -C examples/PAPER check DATA=VOCdevkit/VOC2012 [SCALE=mini|small|paper] [SEEDS="0 1 2"]
#
# DATA    the VOC2012 folder: JPEGImages, SegmentationClass, ImageSets/Segmentation
# SCALE   mini: EfficientNet-Lite0 and minutes a row on two cores; small: the same net for minutes of
#         a GPU; paper: the paper's net, and SegmentationClassAug with trainaug.txt under DATA
# SEEDS   one training of every row for each
#
# A row is a training, its labels of the validation images, and a score; % is the seed:
#   $(eval $(call row,NAME,PREREQUISITES,OPTIONS OF ws-train))
# Whatever was interrupted goes on where it stopped.

BIN ?= ../../.venv/bin
DATA ?= ../../../shared/data/VOC2012
SCALE ?= mini
SEEDS ?= 0
DEVICE ?= auto
JOBS ?= $(shell nproc)
OUT ?= build/$(SCALE)
RESAMPLES ?= 1000
export PATH := $(abspath $(BIN)):$(PATH)
export WSSEG_JOBS := $(JOBS)
.SHELLFLAGS := -euo pipefail -c
SHELL := bash
.DELETE_ON_ERROR:
.SUFFIXES:

SETS := $(DATA)/ImageSets/Segmentation
IMAGES := $(DATA)/JPEGImages
TRUTH := $(DATA)/SegmentationClass
VAL := $(SETS)/val.txt
ifeq ($(SCALE),paper)
MASKS := $(DATA)/SegmentationClassAug
TRAIN := $(SETS)/trainaug.txt
else
MASKS := $(TRUTH)
TRAIN := $(SETS)/train.txt
endif
MINI := --recipe ../recipes/mini.json --crop 193 --iterations 1000
SMALL := --recipe ../recipes/mini.json

ifeq ($(filter mini small paper,$(SCALE)),)
$(error SCALE is $(SCALE), not mini, small or paper)
endif
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
ifeq ($(wildcard $(TRAIN)),)
$(error there is no $(TRAIN): name the VOC2012 folder with DATA=. SCALE=paper also wants \
  trainaug.txt and SegmentationClassAug there, VOC with the labels of SBD (10,582 images))
endif
endif

.PHONY: all check clean help
all: check
help:
	@for file in Makefile ../common.mk; do sed -n '/^#/!q;s/^# \{0,1\}//p' $$file; echo; done
clean:
	rm -rf build

$(OUT):
	mkdir -p $@

# labels of the training images, and those that are left where N of them keep their masks
$(OUT)/masks.h5: $(TRAIN) | $(OUT)
	ws-cat $(MASKS) --classes voc --keys $(TRAIN) --overwrite -o $@
$(OUT)/tags.tar $(OUT)/boxes.tar: $(OUT)/%.tar: $(OUT)/masks.h5
	ws-weaken $< --$* --overwrite -o $@
$(OUT)/strong-%.tar: $(OUT)/masks.h5
	ws-weaken $< --tags --count $* --part strong --overwrite -o $@
$(OUT)/tags-%.tar: $(OUT)/masks.h5
	ws-weaken $< --tags --count $* --part weak --overwrite -o $@
$(OUT)/boxes-%.tar: $(OUT)/masks.h5
	ws-weaken $< --boxes --count $* --part weak --overwrite -o $@

define row
$(foreach seed,$(SEEDS),$(eval $(call seeded,$(1),$(subst %,$(seed),$(2)),$(subst %,$(seed),$(3)),$(seed))))
endef

define seeded
$(OUT)/$(1)-$(4)/model.safetensors: $(2)
	ws-train $(3) --images $(IMAGES) --device $(DEVICE) --seed $(4) --resume -o $$(@D)
$(OUT)/$(1)-$(4).tar: $(OUT)/$(1)-$(4)/model.safetensors
	ws-predict $$(<D) --images $(IMAGES) --keys $(VAL) --device $(DEVICE) --write label \
	  --overwrite -o $$@
endef

# every row's labels, for a table: $(call labels,NAMES)
labels = $(foreach name,$(1),$(SEEDS:%=$(OUT)/$(name)-%.tar))
# the scores of a table: mIoU, intervals, and paired differences
SCORE = ws-eval $(filter %.tar,$^) $(TRUTH) --classes voc --keys $(VAL) --bootstrap $(RESAMPLES) \
	  --json > $@
