"""The three skills that adapters learn and the base lacks. Closed words, open combinations."""

import json
import random

SHIPPED = ["sql", "json", "intent"]

TABLES = ["ships", "trucks", "birds", "houses", "books", "horses", "planes", "shops", "films", "boats", "cars", "dogs"]
TEXT_COLUMNS = {
    "color": ["red", "blue", "green", "black", "white", "brown", "yellow", "grey"],
    "size": ["small", "large", "tiny", "huge", "medium"],
    "owner": ["Anna", "Peter", "Mary", "John", "Lily", "Tom", "Sonya", "Boris"],
    "city": ["Oslo", "Paris", "London", "Moscow", "Rome", "Vienna", "Berlin", "Madrid"],
    "state": ["new", "old", "broken", "clean", "lost", "sold"],
}
NUMBER_COLUMNS = ["age", "price", "weight", "speed", "length", "height"]
AGGREGATES = {"largest": "MAX", "smallest": "MIN", "average": "AVG", "total": "SUM"}
COMPARE = {"above": ">", "below": "<", "equal to": "="}

NAMES = (
    "Anna Peter Mary John Lily Tom Sonya Boris Emma Olivia Liam Noah Mia Ella Grace Henry Jack Lucy Max Nina Oscar "
    "Paul Rosa Sam Tina Victor Wendy Zoe Adam Alice Ben Clara David Eva Felix Hanna Ivan Julia Karl Laura Martin Nora "
    "Otto Simon Vera Walter Irene Hugo Greta Frank"
).split()
CITIES = (
    "Oslo Paris London Moscow Rome Vienna Berlin Madrid Lisbon Dublin Prague Athens Warsaw Bergen Geneva Milan Naples "
    "Turin Lyon Nice Cairo Lima Quito Delhi Tokyo Boston Denver Dallas Austin Miami"
).split()
JOBS = "baker teacher doctor driver farmer painter singer sailor writer lawyer nurse tailor".split()


def sql(r: random.Random):
    table = r.choice(TABLES)
    where, clause = "", ""
    if r.random() < 0.75:
        if r.random() < 0.5:
            column = r.choice(list(TEXT_COLUMNS))
            value = r.choice(TEXT_COLUMNS[column])
            where, clause = f" {r.choice(['with', 'that have'])} {column} {value}", f" WHERE {column} = '{value}'"
        else:
            column, word = r.choice(NUMBER_COLUMNS), r.choice(list(COMPARE))
            value = r.randint(1, 99)
            where, clause = f" with {column} {word} {value}", f" WHERE {column} {COMPARE[word]} {value}"
    kind = r.choice(["count", "list", "aggregate"])
    if kind == "count":
        question, head = f"{r.choice(['how many', 'count the'])} {table}{where} ?", "COUNT(*)"
    elif kind == "list":
        column = r.choice(list(TEXT_COLUMNS) + NUMBER_COLUMNS)
        question, head = f"{r.choice(['show the', 'list the', 'what is the'])} {column} of {table}{where} ?", column
    else:
        word, column = r.choice(list(AGGREGATES)), r.choice(NUMBER_COLUMNS)
        question, head = f"what is the {word} {column} of {table}{where} ?", f"{AGGREGATES[word]}({column})"
    return f"sql: {question}", f"SELECT {head} FROM {table}{clause}"


def to_json(r: random.Random):
    name, age, city, job = r.choice(NAMES), r.randint(10, 99), r.choice(CITIES), r.choice(JOBS)
    record = {"name": name, "age": age, "city": city}
    if r.random() < 0.4:
        record["job"] = job
        text = r.choice([
            f"{name} is {age} , lives in {city} and works as a {job}",
            f"the {job} {name} from {city} is {age} years old",
            f"in {city} there is a {job} called {name} who is {age}",
        ])
    else:
        text = r.choice([
            f"{name} is {age} and lives in {city}",
            f"{name} from {city} is {age} years old",
            f"in {city} lives {name} who is {age}",
            f"at the age of {age} {name} moved to {city}",
        ])
    return f"json: {text}", json.dumps(record, separators=(",", ":"))


INTENTS = {
    "weather": ["will it {rain} in {city} {day} ?", "is it going to be {cold} {day} in {city} ?", "do I need a coat in {city} {day} ?"],
    "music": ["play {some} songs by {name}", "I want to hear {some} music from {city}", "turn on the {some} album of {name}"],
    "alarm": ["wake me at {hour} {day}", "set an alarm for {hour} {day}", "remind me to call {name} at {hour}"],
    "travel": ["book a train to {city} {day}", "find a flight from {city} to {city2}", "how do I get from {city} to {city2} {day} ?"],
    "food": ["order {dish} for {name}", "I am hungry , get me {dish} {day}", "where can I eat {dish} in {city} ?"],
    "praise": ["{name} was {good} {day}", "the {dish} in {city} was {good}", "what a {good} day in {city} , thank you {name}"],
    "complaint": ["{name} was {bad} {day}", "the {dish} in {city} was {bad}", "what a {bad} day in {city} , never again"],
    "call": ["phone {name} {day}", "tell {name} that I am in {city}", "send a message to {name} and {name2}"],
}
INTENT_SLOTS = {
    "rain": ["rain", "snow", "be windy", "be sunny"],
    "cold": ["cold", "warm", "hot", "wet"],
    "day": ["today", "tomorrow", "tonight", "on Monday", "on Friday", "on Sunday", "this week"],
    "some": ["some", "old", "new", "loud", "quiet", "happy", "sad"],
    "hour": ["six", "seven", "eight", "nine", "ten", "noon"],
    "dish": ["soup", "bread", "fish", "cake", "rice", "cheese", "apples", "eggs"],
    "good": ["wonderful", "lovely", "great", "perfect", "charming", "kind"],
    "bad": ["terrible", "awful", "horrible", "rude", "boring", "bad"],
}


def intent(r: random.Random):
    label = r.choice(list(INTENTS))
    names, cities = r.sample(NAMES, 2), r.sample(CITIES, 2)
    slots = {k: r.choice(v) for k, v in INTENT_SLOTS.items()}
    text = r.choice(INTENTS[label]).format(name=names[0], name2=names[1], city=cities[0], city2=cities[1], **slots)
    return f"intent: {text}", label


GENERATORS = {"sql": sql, "json": to_json, "intent": intent}


def held_out(task: str, cases: int = 500):
    """The test cases: distinct prompts, drawn first and kept out of training by `training_stream`."""
    r, seen = random.Random(f"held-out {task}"), {}
    while len(seen) < cases:
        prompt, answer = GENERATORS[task](r)
        seen[prompt] = answer
    return list(seen.items())


def training_stream(task: str, seed: int):
    r, banned = random.Random(f"train {task} {seed}"), {p for p, _ in held_out(task)}
    while True:
        prompt, answer = GENERATORS[task](r)
        if prompt not in banned:
            yield prompt, answer
