"""The `home` workload's fillings: what goes into a template's slots, and requests that no intent covers. Data only."""

# Out of scope, by family. Server, devices and test get families of their own, so that what is out of scope in the test is
# new in kind and not only in words.
OUT_OF_SCOPE: dict[str, tuple[str, ...]] = {
    "arithmetic": (
        "what is {number} (times|plus|minus) {number}",
        "(square root|half) of {number}",
        "is {number} a prime number",
    ),
    "cooking": (
        "(how do i|how to) (cook|bake|make) {food}",
        "(give me|find) a recipe (for|with) {food}",
        "can i freeze {food}",
    ),
    "sports": (
        "did {team} win ({day}|)",
        "when does {team} play ({day}|next|)",
        "who scored for {team} ({day}|)",
    ),
    "travel": (
        "(book|find) a (flight|train|hotel) to {city} ({day}|)",
        "how far is {city} from {city}",
        "cheap trips to {city}",
    ),
    "translation": (
        "how do you say {item} in {language}",
        "translate {food} (in|) to {language}",
        "teach me {language} for {item}",
    ),
    "history": (
        "who was the (king|president|mayor) of {city} in {number}",
        "when was {city} founded",
        "what happened in {number}",
    ),
    "messages": (
        "(call|text|ring) {name} (at {clock}|now|)",
        "tell {name} i will be late",
        "did {name} write to me ({day}|)",
    ),
    "money": (
        "(pay|send) {name} {number} (dollars|euros)",
        "what does {item} cost in {city}",
        "how many dollars are {number} euros",
    ),
    "jokes": (
        "tell me a joke about ({food}|{city}|{name})",
        "do you know a riddle about {item}",
        "make me laugh about {team}",
    ),
    "health": (
        "is {food} (healthy|bad for you)",
        "how many calories are in {food}",
        "does {item} help against a headache",
    ),
    "calendar": (
        "(do i have|is there) a meeting (on|) {day}",
        "invite {name} for {day} at {clock}",
        "when is {name} (free|back)",
    ),
    "traffic": (
        "how is the traffic to {city}",
        "how long is the drive to {city} ({day}|)",
        "order a taxi to {city} (at {clock}|)",
    ),
    "spelling": (
        "how do you spell ({item}|{language}|{food})",
        "what rhymes with ({item}|{color})",
        "what does {language} mean",
    ),
    "pets": (
        "can (dogs|cats|rabbits) eat ({food}|{item})",
        "how old is the (cat|dog) of {name}",
        "names for a {color} (cat|dog)",
    ),
    "laundry": (
        "(start|run) the (dryer|washer) at {clock}",
        "how do i get {item} out of my shirt",
        "wash my {color} shirt {day}",
    ),
    "films": (
        "who plays {name} in that film (from {number}|)",
        "is there a film about {city}",
        "which films start {day} in {city}",
    ),
    "garden": (
        "when do i plant {item}",
        "water the {color} flowers (at {clock}|{day})",
        "why are my {item} plants turning {color}",
    ),
    "chat": (
        "what do you think of ({artist}|{city}|{team})",
        "are you (older|smarter) than {name}",
        "do you like ({food}|{item})",
    ),
}

_WORDS = {
    "room": """
        kitchen, living room, bedroom, bathroom, hallway, office, dining room, attic, basement, garage, guest room,
        nursery, study, laundry room, playroom, porch, conservatory, kids room, upstairs bathroom, den, pantry,
        music room, utility room, landing, sunroom, workshop
    """,
    "activity": """
        read, cook, work, draw, eat, clean up, dance, relax, study, wrap presents, play cards
    """,
    "percent": """
        ten percent, twenty percent, thirty percent, forty percent, half, sixty percent, eighty percent, 25 percent,
        35 percent, 45 percent, 70 percent, a third, a quarter, 5 percent, 15 percent
    """,
    "color": """
        red, blue, green, warm white, purple, orange, pink, yellow, turquoise, cold white, amber, violet, teal, magenta,
        gold, lavender, mint, cream, peach, crimson
    """,
    "degrees": """
        eighteen degrees, nineteen degrees, twenty degrees, twenty one degrees, twenty two, 17 degrees, 23 degrees,
        sixty five degrees, seventy degrees, 68, 19.5, 21.5 degrees, 24, 16 degrees, sixty eight, seventy two
    """,
    "clock": """
        six, seven, eight, half past six, half past seven, quarter to eight, 6 am, 7 30, 5 45, nine, ten,
        quarter past five, 10 pm, eleven, noon, 4 pm, five, twenty to seven, 6 15, 8 45, half past nine
    """,
    "day": """
        today, tomorrow, tonight, on monday, on tuesday, on wednesday, on thursday, on friday, on saturday, on sunday,
        this weekend, tomorrow morning, next week, this afternoon, this evening, over the holidays
    """,
    "duration": """
        five minutes, ten minutes, twelve minutes, a quarter of an hour, twenty minutes, half an hour, an hour,
        two hours, 90 seconds, three minutes, 45 minutes, eight minutes, 25 minutes, an hour and a half, six minutes,
        40 minutes, seven minutes, thirty seconds
    """,
    "genre": """
        jazz, rock, classical music, blues, country, reggae, hip hop, folk, techno, salsa, opera, soul, disco, metal,
        piano music, swing, indie, lullabies, christmas songs, audio book, radio, podcast
    """,
    "artist": """
        the beatles, miles davis, nina simone, mozart, queen, johnny cash, bob marley, adele, daft punk, abba, bach,
        fleetwood mac, aretha franklin, pink floyd, the clash, dolly parton, kraftwerk, prince, bjork
    """,
    "food": """
        pasta, eggs, rice, pizza, cake, bread, lasagna, chicken, potatoes, soup, cookies, tea, roast, pie, muffins,
        beans, dumplings, salmon, risotto, pancakes, lentils, turkey, brownies, noodles
    """,
    "item": """
        milk, butter, eggs, bread, coffee, toilet paper, apples, tomatoes, cheese, onions, flour, sugar, dog food,
        bananas, olive oil, yogurt, carrots, batteries, soap, honey, rice, lemons, garlic, salt, light bulbs, cereal,
        spinach, mustard, shampoo, oat milk, basil, wine, cat litter, peppers
    """,
    "door": """
        front, back, garage, garden gate, side, cellar, balcony, patio, shed, main gate, terrace, kitchen door,
        driveway gate, porch, studio, bike room, upstairs, loft
    """,
    "name": """
        anna, ben, carla, david, emma, felix, grandma, hannah, ivan, julia, the kids, leo, maria, noah, olga, paul,
        rosa, sam, tom, uncle joe, wei, yusuf, my sister, the plumber, mom, dad
    """,
    "city": """
        london, paris, berlin, chicago, boston, madrid, oslo, rome, tokyo, denver, lisbon, dublin, vienna, seattle,
        glasgow, austin, prague, geneva, cairo, lima, leeds, zurich, turin, porto
    """,
    "team": """
        the lions, the rangers, the bears, arsenal, the giants, celtic, the hawks, bayern, the sharks, united,
        the red sox, the lakers, ajax, the bulls, the eagles, leeds, the wolves, juventus
    """,
    "language": """
        french, german, spanish, italian, polish, japanese, dutch, greek, turkish, welsh, hindi
    """,
    "number": """
        12, 17, 24, 49, 81, 144, 250, 365, 999, 1066, 1492, 1776, 1848, 1912, 1969, 1989, seven, nineteen, forty two,
        sixty four, a hundred, two hundred and six, 1650, 1720, 1815, 1936
    """,
}

SLOTS: dict[str, tuple[str, ...]] = {
    slot: tuple(" ".join(word.split()) for word in words.split(",")) for slot, words in _WORDS.items()
}
