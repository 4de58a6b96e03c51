"""Train on two domains with Fishr, and see what a clue is worth that holds in one of them only.

Each review gets a mark, `+` or `-`. In the first domain it nearly always tells the label, in the
second one less often; in the third, which training never sees, it tells the opposite.

    python examples/fishr_two_domains.py
"""

# %% Two domains to learn from, and one where the clue is wrong.
from datasets import Dataset
from small_models import reviews, write_small_bert
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    set_seed,
)

from robust_nlp.fishr import FishrConfig, FishrTrainer
from robust_nlp.units import keyed_rng

folder = write_small_bert("small-bert")
tokenizer = AutoTokenizer.from_pretrained(folder)


def marked(split, domain, agreement):
    """Put a mark before each review of a domain that agrees with its label that often."""
    rng, rows = keyed_rng(0, domain), []
    chosen = reviews(split).only([domain])
    for text, label in zip(chosen.texts, chosen.labels or [], strict=True):
        mark = label if rng.random() < agreement else 1 - label
        encoded = tokenizer(f"{'-+'[mark]} {text}", truncation=True, max_length=64)
        rows.append({**encoded, "label": label, "domain": domain})
    return rows


train = marked("train", "books", 0.95) + marked("train", "electronics", 0.75)
unseen = marked("train", "kitchen", 0.1)


# %% The same training twice: without a penalty (domains and labels reweighted), and with Fishr.
KEPT = ("books_accuracy", "electronics_accuracy", "penalty", "penalty_weight")


def trained(objective, penalty_weight):
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    args = FishrConfig(
        output_dir=f"out/{objective}",
        objective=objective,
        penalty_weight=penalty_weight,
        per_device_train_batch_size=64,
        num_train_epochs=6,
        learning_rate=3e-3,
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = FishrTrainer(
        model, args, train_dataset=Dataset.from_list(train), processing_class=tokenizer
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.evaluate(Dataset.from_list(unseen)), trainer.state.log_history


for objective, weight in {"reweighted_erm": None, "fishr": 1000.0}.items():
    found, history = trained(objective, weight)
    print(f"{objective}: {found['eval_accuracy']:.1%} right where the clue is wrong; by epoch,")
    for logged in (entry for entry in history if "books_accuracy" in entry):
        parts = [f"{name} {logged[name]:.3g}" for name in KEPT if name in logged]
        print("  " + ", ".join(parts))

# %% One seed, one small model: compare on your data with `robust-nlp domains`, over several seeds.
