# What the papers' Makefiles share.
#
#   make -C examples/PAPER check DATA=VOCdevkit/VOC2012 [SCALE=mini|small|paper] [SEEDS="0 1 2"]
#
# DATA     the VOC2012 folder: JPEGImages, SegmentationClass, ImageSets/Segmentation (panoptic-2018: Cityscapes).
#          A relative path is one of the folder where make was called, or else of the Makefile's
# SCALE    mini: EfficientNet-Lite0 and minutes a row on two cores; small: the same net for minutes of
#          a GPU; paper: the paper's net, and SegmentationClassAug with trainaug.txt under DATA
# SEEDS    one training of every row for each
# DEVICE   where to train: auto, cpu, cuda, cuda:1; JOBS: threads of a tool, all cores unless set
# OUT      where all is kept (build/SCALE): one folder for each DATA, SCALE, NET, kind of labels and so on, which
#          OUT/made-of tells
# BIN      the folder of wsseg's tools, if not .venv/bin or on the PATH; RESAMPLES: of the intervals (1000)
# PREDICT  options of ws-predict; CRF: those of ws-crf behind it, where a row has one
# TEST     the images of an archive for the VOC server: test.txt, unless SCALE=paper val.txt for a trial
#
#   make data   count what lies in DATA, and say what is missing and where it comes from
#   make trainaug SBD=benchmark_RELEASE/dataset   make trainaug.txt and SegmentationClassAug in DATA
#   make clean  remove build/
#
# A row is a training, its labels of the validation images, and a score; % is the seed:
#   $(eval $(call row,NAME,PREREQUISITES,OPTIONS OF ws-train))
# It has variants: NAME+raw without and NAME+crf with the dense CRF, NAME.train the training images.
# Whatever was interrupted goes on where it stopped. What only pattern rules name make would remove: it
# is PRECIOUS.

ifneq ($(firstword $(sort 4.2 $(MAKE_VERSION))),4.2)
$(error this is make $(MAKE_VERSION); GNU make 4.2 or later is needed)
endif
export CALLED ?= $(or $(PWD),$(CURDIR))
# what a Makefile says of itself, which the environment does not: DATA is not VOC's; goals without data
own = $(if $(filter file,$(origin $(1))),$($(1)))
CITY := $(call own,NOT_VOC)
WITHOUT := $(if $(filter-out clean help data trainaug $(call own,WITHOUT_DATA),$(or $(MAKECMDGOALS),check)),,yes)
# places as they are seen from where make was called; these must be there
SOURCES := COCO COCO_WEAK GENERATOR OBJECTS SCRIBBLESUP TEST TRAINSET WEAK
called = $(if $(filter /%,$(1)),$(1),$(if $(wildcard $(CALLED)/$(1)),$(abspath $(CALLED)/$(1)),$(1)))
define place
ifneq ($(filter command environment,$(firstword $(origin $(1)))),)
ifneq ($(word 2,$($(1)))$(findstring ',$($(1))),)
$$(error $(1)=$($(1)) has a blank or a quote, which make cannot do with: link to it)
endif
override $(1) := $(call called,$($(1)))
ifeq ($(WITHOUT)$(filter-out $(SOURCES),$(1))$(wildcard $(call called,$($(1)))),)
$$(error there is no $(call called,$($(1))), which $(1)= names)
endif
endif
endef
$(foreach name,BIN DATA SBD VOC XCEPTION $(SOURCES),$(if $($(name)),$(eval $(call place,$(name)))))

BIN ?= ../../.venv/bin
DATA ?= ../../../shared/data/VOC2012
COCO ?= $(DATA)/../coco
SCALE ?= mini
SEEDS ?= 0
DEVICE ?= auto
JOBS ?= $(shell nproc)
OUT ?= build/$(SCALE)
ifneq ($(word 2,$(OUT)),)
$(error OUT=$(OUT) has a blank, which make cannot do with)
endif
RESAMPLES ?= 1000
CRF ?= --preset deeplab
export PATH := $(abspath $(BIN)):$(PATH)
export WSSEG_JOBS := $(JOBS)
.SHELLFLAGS := -euo pipefail -c
SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT:
	@echo "there is no $@, and nothing here makes it: make help lists the targets, make data what is missing" >&2; false
.SUFFIXES:

SETS := $(DATA)/ImageSets/Segmentation
IMAGES := $(DATA)/JPEGImages
TRUTH := $(DATA)/SegmentationClass
VAL := $(SETS)/val.txt
ifeq ($(SCALE),paper)
MASKS := $(DATA)/SegmentationClassAug
TRAIN := $(SETS)/trainaug.txt
TEST ?= $(SETS)/test.txt
else
MASKS := $(TRUTH)
TRAIN := $(SETS)/train.txt
TEST ?= $(VAL)
endif
# mini trains on, and predicts from, photos of half the size; labels are of full size
MINI := --recipe ../recipes/mini.json --scale .4 .7 --crop 161 --iterations 800
SMALL := --recipe ../recipes/mini.json
# EM from tags needs a net that knows the classes, as VGG-16's layers do: a classifier of the tags,
# made convolutional. A new head on ImageNet's features ends with one place that is always foreground.
TAG ?= --backbone efficientnet-lite0 --epochs 8 $(if $(filter mini,$(SCALE)),--crop 161 --scale .4 .7,\
  --crop 257 --scale .8 1.3)
KNOWN = --head fcn --init $(1) --lr 2e-4 --new-rate 2 --bias-rate 2
PREDICT ?= $(if $(filter mini,$(SCALE)),--scales .5)

ifeq ($(filter mini small paper,$(SCALE)),)
$(error SCALE is $(SCALE), not mini, small or paper)
endif
define numbers
ifneq ($(or $(if $($(1)),,none),$(shell printf %s '$(subst ','\'',$($(1)))' | tr -d '0-9 ')),)
$$(error $(1) is '$($(1))', not numbers with blanks between)
endif
endef
$(foreach name,SEEDS N,$(if $(filter undefined,$(origin $(name))),,$(eval $(call numbers,$(name)))))
override SEEDS := $(sort $(SEEDS))
ifeq ($(WITHOUT)$(CITY),)
ifneq ($(filter-out $(wildcard $(TRAIN) $(VAL)),$(TRAIN) $(VAL)),)
$(error there is no $(firstword $(filter-out $(wildcard $(TRAIN) $(VAL)),$(TRAIN) $(VAL))): name the VOC2012 folder \
  with DATA=. SCALE=paper also wants trainaug.txt and SegmentationClassAug there, VOC with the labels of SBD \
  (10,582 images): make data DATA=... says where they come from)
endif
endif

# $(call wants,GOALS,FILES,TEXT): before any work, stop where a file that one of these goals needs is not there
wants = $(if $(filter $(1),$(MAKECMDGOALS)),$(foreach file,$(2),$(if $(wildcard $(file)),,$(error \
  there is no $(file): $(3)))))

.PHONY: again all check clean data help trainaug
all: check
again: ;
help:
	@for file in $(sort $(wildcard Makefile *.mk)) ../common.mk; do \
	  sed -n '/^#/!q;s/^# \{0,1\}//p' $$file; echo; done
data:
	@python3 ../data.py $(VOC2012) $(if $(CITY),--cityscapes $(DATA)) --scribbles $(or $(SCRIBBLESUP),SCRIBBLESUP=) \
	  --coco $(COCO) --record ../data.json
VOC2012 = $(if $(CITY),$(VOC),$(DATA))
SBD ?= benchmark_RELEASE/dataset
trainaug:
	mkdir -p $(OUT)
	python3 ../lists.py aug $(SBD) $(VOC2012) $(OUT)
	ws-cat --from sbd $(SBD) --split $(OUT)/sbd.txt --only label --overwrite -o $(OUT)/sbd.h5
	ws-cat $(VOC2012)/SegmentationClass --classes voc --truth --keys $(OUT)/voc.txt --overwrite -o $(OUT)/voc.h5
	ws-cat $(OUT)/sbd.h5 $(OUT)/voc.h5 --resume -o $(VOC2012)/SegmentationClassAug
	cp $(OUT)/trainaug.txt $(VOC2012)/ImageSets/Segmentation
clean:
	rm -rf build

# What OUT was made of: nothing is made again when these change, so others want another OUT. MADE_FROM are
# those that a Makefile adds; a place in OUT itself is the same wherever OUT is
MADE_OF = DATA SCALE NET PREDICT CRF TAG $(call own,MADE_FROM)
setting = $(strip $(subst $(OUT)/,OUT/,$(if $(filter DATA,$(1)),$(or $(realpath $($(1))),$($(1))),$($(1)))))
equal = $(if $(subst x$(1),,x$(2))$(subst x$(2),,x$(1)),,equal)
was = $(strip $(file <$(OUT)/made-of/$(1)))
kept = $(if $(and $(filter-out undefined,$(origin $(1))),$(wildcard $(OUT)/made-of/$(1))),$(if $(call equal,$(call was,$(1)),$(call setting,$(1))),,\
  $(error $(OUT) was made with $(1)=$(call was,$(1)), and this is $(1)=$(call setting,$(1)): name another OUT=, or delete \
  $(OUT)/made-of/$(1) where that makes no difference)))
settled = $(if $(WITHOUT),,$(foreach name,$(MADE_OF),$(call kept,$(name))))
NOTED := $(OUT)/made-of/all
note = echo '$(subst ','\'',$(call setting,$(1)))' > $(OUT)/made-of/$(1)
$(NOTED):
	@command -v ws-train > /dev/null || { echo "ws-train is neither in $(BIN) nor on the PATH: BIN= names the \
	  folder of wsseg's tools (examples/README.md says how to install them)" >&2; false; }
	$(if $(CITY),,@python3 ../lists.py check $(IMAGES) $(TRAIN) $(MASKS) $(VAL) $(TRUTH))
	@mkdir -p $(@D)$(foreach name,$(MADE_OF), && $(call note,$(name))) && touch $@
# $(call from,NAME): the same of what only some goals need; what is made from it has this behind a |
from = $(OUT)/made-of/$(1)
$(OUT)/made-of/%: again
	$(if $(wildcard $@),$(call kept,$*),@mkdir -p $(@D) && $(if $(filter TEST,$*),python3 ../lists.py check $(IMAGES) \
	  $(TEST) - && )$(call note,$*))

# $(call choose,N,SEED): N keys of the first prerequisite, at random
define choose
ws-budget subsets --keys $< -n $(1) --seed $(2) --runs 1 --overwrite -o $@.lists
	mv $@.lists/$(1)-$(2).txt $@
endef

# labels of the training images, those of N images of train.txt, and those that are left without them
$(OUT)/masks.h5: $(TRAIN) | $(NOTED)
	ws-cat $(MASKS) --classes voc --truth --keys $(TRAIN) --overwrite -o $@
$(OUT)/tags.tar $(OUT)/boxes.tar: $(OUT)/%.tar: $(OUT)/masks.h5
	ws-weaken $< --$* --overwrite -o $@
.PRECIOUS: $(OUT)/strong-%.txt $(OUT)/rest-%.txt
$(OUT)/strong-%.txt: $(SETS)/train.txt | $(NOTED)
	$(call choose,$*,0)
$(OUT)/rest-%.txt: $(OUT)/strong-%.txt $(TRAIN)
	python3 ../lists.py rest $(TRAIN) $< > $@.part && mv $@.part $@
# $(call apart,NUMBERS): strong-7.tar is 7 images' labels, and what row `strong` says with seed 7
apart = $(if $(filter $(1),$(SEEDS)),$(error $(firstword $(filter $(1),$(SEEDS))) is a seed and one of N=$(1): their \
  files would have one name))
$(OUT)/strong-%.tar: $(OUT)/strong-%.txt $(OUT)/masks.h5
	ws-cat $(OUT)/masks.h5 --keys $< --overwrite -o $@
$(OUT)/tags-%.tar: $(OUT)/rest-%.txt $(OUT)/tags.tar
	ws-cat $(OUT)/tags.tar --keys $< --overwrite -o $@
$(OUT)/boxes-%.tar: $(OUT)/rest-%.txt $(OUT)/boxes.tar
	ws-cat $(OUT)/boxes.tar --keys $< --overwrite -o $@
# train and val together, from which nets for the test server learn (paper: 12,031 images)
$(OUT)/trainval.txt: $(TRAIN) $(VAL) | $(NOTED)
	sort -u $^ > $@
$(OUT)/trainval.h5: $(OUT)/trainval.txt
	ws-cat $(MASKS) --classes voc --truth --keys $< --overwrite -o $@

define row
$(foreach seed,$(SEEDS),$(eval $(call seeded,$(1),$(subst %,$(seed),$(2)),$(subst %,$(seed),$(3)),$(seed))))
endef

# labels of the images in list $(1), by options $(2) of ws-crf if there are any, into the target
LABEL = ws-predict $(<D) --images $(IMAGES) --keys $(1) --device $(DEVICE) $(PREDICT) $(if $(strip $(2)),\
  --write score -o - | ws-crf --images $(IMAGES) $(2)) --write label --overwrite -o

define seeded
$(OUT)/$(1)-$(4)/model.safetensors: $(2)
	ws-train $(3) --images $$(IMAGES) --device $(DEVICE) --seed $(4) --resume -o $$(@D)
$(OUT)/$(1)-$(4).tar: $(OUT)/$(1)-$(4)/model.safetensors
	$$(call LABEL,$$(VAL),$(POST)) $$@
$(OUT)/$(1)+raw-$(4).tar: $(OUT)/$(1)-$(4)/model.safetensors
	$$(call LABEL,$$(VAL),) $$@
$(OUT)/$(1)+crf-$(4).tar: $(OUT)/$(1)-$(4)/model.safetensors
	$$(call LABEL,$$(VAL),$(CRF)) $$@
$(OUT)/$(1).train-$(4).tar: $(OUT)/$(1)-$(4)/model.safetensors
	$$(call LABEL,$$(or $$(TRAINSET),$(TRAIN)),) $$@
$(OUT)/test/$(1)-$(4).tgz: $(OUT)/$(1)-$(4)/model.safetensors $(TEST) | $(call from,TEST)
	mkdir -p $$(@:.tgz=)
	$$(call LABEL,$(TEST),$(POST)) $$(@:.tgz=)/$(FORM)
	tar -C $$(@:.tgz=) --exclude __wsseg__ -czf $$@ results
endef
# as the VOC server has it: comp6, trained on more than VOC's own train and val
FORM := results/VOC2012/Segmentation/comp6_test_cls

# every row's labels, for a table: $(call labels,NAMES)
labels = $(foreach name,$(1),$(SEEDS:%=$(OUT)/$(name)-%.tar))
# the scores of a table: mIoU, intervals, and paired differences
define SCORE
ws-eval $(filter %.tar,$^) $(TRUTH) --classes voc --keys $(VAL) --bootstrap $(RESAMPLES) --json > $@
@$(NOTE)
endef
# $(eval $(call asked,NAME,FILES)): NAME.json is made again where it is of other rows or seeds than before
define asked
$(settled)
$(OUT)/$(1).json: ASKED := $(2)
ifneq ($(strip $(file <$(OUT)/$(1).rows)),$(strip $(2)))
$(OUT)/$(1).json: again
endif
endef
NOTE = echo '$(ASKED)' > $(basename $@).rows

# $(eval $(call table,NAME,ROWS)): `make NAME` prints these rows beside the paper's
define table
.PHONY: $(1)
$(1): $(OUT)/$(1).json
	@python3 ../check.py expected.json $(1) $$<
$(call asked,$(1),$(call labels,$(2)))
$(OUT)/$(1).json: $(call labels,$(2))
	$$(SCORE)
endef
# $(eval $(call archives,NAME,ROWS)): archives of these rows for the test server
define archives
$(call wants,$(1),$(TEST),VOC2012test.tar of the evaluation server has it; unpack that into DATA or name a list with TEST=)
.PHONY: $(1)
$(1): $(call from,TEST) $(foreach name,$(2),$(SEEDS:%=$(OUT)/test/$(name)-%.tgz))
	@python3 ../check.py expected.json $(1) -
	@printf 'for the VOC server: %s\n' $$(filter %.tgz,$$^)
endef
# these tables beside the paper's, for `check`
CHECK = @python3 ../check.py expected.json $(foreach file,$^,$(basename $(notdir $(file))) $(file))
