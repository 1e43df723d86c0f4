"""The grammar behind the `home` workload: what people say to a home assistant, by topic and intent.

Written for fedge; no recorded speech is in it. In a template ``(a|b)`` chooses, ``(a|)`` may stay silent, and ``{slot}`` is
filled from `home_slots`. Data only: `home` draws from it.

The `home` workload's fillings: what goes into a template's slots, and requests that no intent covers. Data only.
"""



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


TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "lights": {
        "light_on": (
            "(turn|switch|put) on the (light|lights|lamp) (in the {room}|)",
            "(turn|switch|put) the {room} (light|lights|lamp) on",
            "lights on (in the {room}|)",
            "(it is|it's) too dark in (the {room}|here)",
            "i (cannot|can't) see a thing in the {room}",
            "(light up|illuminate) the {room}",
            "i need (some|more) light (in the {room}|to {activity})",
            "i am in the {room} and it is pitch black",
        ),
        "light_off": (
            "(turn|switch|put) off the (light|lights|lamp) (in the {room}|)",
            "(turn|switch) the {room} (light|lights|lamp) off",
            "lights (off|out) (in the {room}|)",
            "kill the lights (in the {room}|)",
            "nobody is in the {room} so the light can go off",
            "did i leave the {room} light on (if so turn it off|switch it off then)",
            "make it dark in the {room}",
            "i am (leaving|done in) the {room} so no more light there",
        ),
        "light_dim": (
            "dim the (light|lights|lamp) (in the {room}|) (to {percent}|)",
            "set the {room} (light|lights|lamp) to {percent}",
            "(turn|bring) the {room} lights down (to {percent}|a little|a bit)",
            "(it is|it's) too bright in (the {room}|here)",
            "make the {room} light (softer|less bright|gentler)",
            "the {room} lamp is blinding me",
            "(brightness|light level) {percent} in the {room}",
        ),
        "light_color": (
            "(make|turn) the {room} (light|lights|lamp) {color}",
            "(set|change) the color of the {room} (light|lights|lamp) to {color}",
            "(i want|give me) {color} light in the {room}",
            "{color} lights (in the {room}|for the {room})",
            "let the {room} glow {color}",
            "can the {room} lamp be {color}",
        ),
    },
    "heating": {
        "heat_set": (
            "set the (heating|thermostat|temperature) (in the {room}|) to {degrees}",
            "(heating|thermostat) at {degrees} (in the {room}|)",
            "(make it|keep it at) {degrees} in the {room}",
            "i want {degrees} in the {room} (by {clock}|tonight|)",
            "the {room} should be {degrees} (at {clock}|)",
            "let us have {degrees} in the {room}",
        ),
        "heat_up": (
            "(turn|put) up the heating (in the {room}|)",
            "turn the (heating|thermostat) up (a bit|a little|) (in the {room}|)",
            "(it is|it's) (too|so) cold in (the {room}|here)",
            "(i am|i'm) freezing in (the {room}|here)",
            "make (the {room}|it) (warmer|a bit warmer)",
            "warm up the {room} (before {clock}|a little|)",
            "my feet are like ice in the {room}",
            "more heat (in the {room}|for the {room})",
        ),
        "heat_down": (
            "(turn|put) down the heating (in the {room}|)",
            "turn the (heating|thermostat) down (a bit|a little|) (in the {room}|)",
            "(it is|it's) (too|so) (hot|warm) in (the {room}|here)",
            "(i am|i'm) (sweating|melting) in (the {room}|here)",
            "make (the {room}|it) (cooler|a bit cooler)",
            "cool (down the {room}|the {room} down)",
            "less heat (in the {room}|for the {room})",
            "it feels like a sauna in the {room}",
        ),
        "heat_query": (
            "(what is|what's) the temperature in the {room}",
            "how (warm|cold|hot) is it in the {room}",
            "what is the (heating|thermostat) set to (in the {room}|)",
            "is the heating on (in the {room}|)",
            "how many degrees (do we have|are there) in the {room}",
            "tell me the {room} temperature",
        ),
    },
    "media": {
        "music_play": (
            "play (some|a bit of|) {genre} (in the {room}|)",
            "(play|put on) {artist} (in the {room}|)",
            "i want to (hear|listen to) ({artist}|some {genre}|{genre})",
            "(put|turn) some {genre} on (in the {room}|)",
            "music (please|) something like {artist}",
            "start my {genre} playlist (in the {room}|)",
            "we could use a little {genre} to {activity}",
        ),
        "music_pause": (
            "(pause|stop) the (music|song|playlist) (in the {room}|)",
            "(turn|switch) off the music (in the {room}|)",
            "kill the music (in the {room}|)",
            "(quiet|silence) in the {room}",
            "(hold|pause) the {genre} for a (moment|second|minute)",
            "i am on the phone so stop the {genre}",
            "no more {genre} (in the {room}|)",
        ),
        "music_next": (
            "(next|skip this|another) (song|track) (in the {room}|)",
            "skip (this one|this|this {genre} song)",
            "i (do not|don't) like this (song|track|{genre} song)",
            "play the next (song|track|one) (by {artist}|)",
            "(something|anything) (else|other) than {artist}",
            "i have heard this {genre} song too often",
        ),
        "volume_up": (
            "turn (the volume|the music|the {genre}|it) up (in the {room}|)",
            "(louder|make it louder|volume up) (in the {room}|)",
            "(raise|increase) the volume (in the {room}|) (to {percent}|)",
            "i (cannot|can't) hear (the music|{artist}|the {genre}) in the {room}",
            "the (music|{genre}) is too quiet (in the {room}|)",
            "crank up (the {genre}|{artist})",
        ),
        "volume_down": (
            "turn (the volume|the music|the {genre}|it) down (in the {room}|)",
            "(quieter|not so loud|volume down) (in the {room}|)",
            "(lower|reduce) the volume (in the {room}|) (to {percent}|)",
            "the (music|{genre}) is too loud (in the {room}|)",
            "{name} is asleep so (keep it down|not so loud)",
            "my ears hurt from the {genre}",
        ),
    },
    "timers": {
        "timer_set": (
            "set a timer for {duration}",
            "(start|give me) a {duration} timer (for the {food}|)",
            "timer (for|of|) {duration}",
            "(remind|tell) me in {duration} to (check|take out) the {food}",
            "count down {duration}",
            "the {food} needs {duration}",
            "let me know when {duration} are over",
        ),
        "timer_cancel": (
            "(cancel|stop|delete) the (timer|{duration} timer|{food} timer)",
            "i (do not|don't) need the ({food} timer|{duration} timer|timer) (any more|anymore)",
            "forget (about|) the ({food} timer|{duration} timer)",
            "the {food} is ready so stop (counting|the timer)",
            "no timer for the {food} after all",
        ),
        "timer_left": (
            "how (long|much time) is left on the (timer|{food} timer)",
            "how much longer for the {food}",
            "when (is|will) the {food} (timer|) (be|) (done|ready|over)",
            "check the ({food}|{duration}) timer",
            "how many minutes until the {food} is done",
        ),
        "alarm_set": (
            "wake me (up|) at {clock} ({day}|)",
            "(set|make) an alarm for {clock} ({day}|)",
            "alarm at {clock} ({day}|)",
            "i (have|need|must) to (get up|be up) at {clock} ({day}|)",
            "do not let me sleep past {clock} ({day}|)",
            "ring me out of bed at {clock}",
        ),
        "alarm_cancel": (
            "(cancel|delete|turn off|remove) (the|my) {clock} alarm",
            "(cancel|delete|remove) (the|my) alarm (for|on|) {day}",
            "no alarm {day} (please|)",
            "i want to sleep in {day}",
            "do not wake me (at {clock}|{day})",
            "i (do not|don't) have to get up at {clock} (any more|after all)",
        ),
    },
    "shopping": {
        "list_add": (
            "(add|put) {item} (to|on) (the|my) (shopping|) list",
            "we (need|are out of|have no) {item}",
            "(buy|get) {item} (next time|{day}|)",
            "(add|put) {item} and {item} (to|on) the list",
            "{name} used the last of the {item}",
            "there is no {item} left (in the {room}|)",
            "do not let me forget the {item}",
        ),
        "list_remove": (
            "(remove|take|delete|cross) {item} (from|off) (the|my) (shopping|) list",
            "we (do not|don't) need {item} (any more|after all)",
            "{name} (already|just) (bought|got) {item}",
            "(scratch|forget) the {item}",
            "there is still {item} (in the {room}|) so take it off",
            "clear {item} from the list",
        ),
        "list_read": (
            "what is on (the|my) (shopping|) list (for {day}|)",
            "read (me|) the (shopping|) list (for {day}|)",
            "is {item} on the (shopping|) list",
            "what do (we|i) (need|have) to buy ({day}|)",
            "did {name} add {item} to the list",
            "tell me what to get {day}",
        ),
    },
    "weather": {
        "weather_now": (
            "(what is|what's|how is) the weather (like|) (in {city}|right now|now)",
            "how (warm|cold|hot) is it (outside|in {city}) (right now|now|)",
            "is it (nice|sunny|windy) (outside|in {city}|out there)",
            "weather in {city} (now|)",
            "do i need a (coat|jacket) (right now|to go out)",
            "what does it look like out there in {city}",
        ),
        "weather_forecast": (
            "(what is|what's) the (forecast|weather) for {day} (in {city}|)",
            "how will the weather be {day} (in {city}|)",
            "will it be (warm|cold|sunny|windy) {day} (in {city}|)",
            "(forecast|weather) {day} (in {city}|)",
            "is {day} a good day for a (barbecue|walk|picnic) in {city}",
            "what should i wear in {city} {day}",
        ),
        "rain_ask": (
            "(is it|will it be) raining (in {city}|) ({day}|)",
            "(will|does) it rain (in {city}|) ({day}|)",
            "(will|do) i need an umbrella (in {city}|) ({day}|)",
            "(chance|any chance) of (rain|snow) {day} (in {city}|)",
            "are we going to get wet {day} in {city}",
            "can i hang out the washing {day}",
        ),
    },
    "security": {
        "door_lock": (
            "lock (the|) {door} (door|)",
            "(lock up|lock everything) (at {clock}|for the night|)",
            "(make sure|see that) the {door} (door|) (is|gets) locked",
            "(shut|close) and lock the {door}",
            "i forgot to lock the {door}",
            "nobody should get in through the {door}",
        ),
        "door_unlock": (
            "(unlock|open) (the|) {door} (door|) (for {name}|)",
            "let {name} in (at the {door}|)",
            "(open|unlock) up the {door} (now|)",
            "i am at the {door} without my key",
            "{name} is waiting outside the {door}",
            "the {door} should open when {name} comes",
        ),
        "door_status": (
            "is the {door} (door|) (locked|open|closed|shut)",
            "did (i|{name}) (lock|close|leave open) the {door}",
            "(check|tell me) (if|whether) the {door} is (locked|shut|open)",
            "is everything locked (up|) (for the night|)",
            "who left the {door} open",
            "status of the {door}",
        ),
        "camera_show": (
            "show (me|) the {door} (camera|)",
            "(who is|who's) at the {door}",
            "(what is|what's) (going on|happening) at the {door}",
            "(put|show) the {door} camera on the (screen|tv|tablet)",
            "is (someone|anybody|{name}) at the {door}",
            "i heard a noise at the {door} so let me see",
        ),
    },
    "blinds": {
        "blinds_open": (
            "open the (blinds|curtains|shutters) (in the {room}|)",
            "(raise|pull up) the {room} (blinds|shutters)",
            "let (some|the) (sun|daylight) into the {room}",
            "(blinds|shutters|curtains) up (in the {room}|at {clock})",
            "i want to look out of the {room} window",
            "good morning {room} (let the day in|)",
        ),
        "blinds_close": (
            "(close|shut) the (blinds|curtains|shutters) (in the {room}|)",
            "(lower|pull down|draw) the {room} (blinds|shutters|curtains)",
            "(blinds|shutters|curtains) down (in the {room}|at {clock})",
            "the (sun|daylight) is blinding me in the {room}",
            "the neighbors can see into the {room}",
            "keep the (sun|heat) out of the {room}",
        ),
    },
    "vacuum": {
        "vacuum_start": (
            "(start|run) the (vacuum|robot|hoover) (in the {room}|)",
            "(vacuum|hoover|clean) the {room} (floor|) (at {clock}|{day}|)",
            "the {room} floor is (dirty|full of crumbs|filthy)",
            "{name} spilled (crumbs|flour|sugar) in the {room}",
            "send the (robot|vacuum) (to the {room}|into the {room})",
            "there is sand all over the {room}",
        ),
        "vacuum_stop": (
            "(stop|pause) the (vacuum|robot|hoover) (in the {room}|)",
            "stop (vacuuming|cleaning|hoovering) (the {room}|)",
            "the (vacuum|robot) is too loud (in the {room}|)",
            "(hold|halt) the (robot|vacuum) (in the {room}|) while i am on the phone",
            "the robot is eating the {room} rug so stop it",
            "not the {room} now robot",
        ),
        "vacuum_dock": (
            "send the (vacuum|robot|hoover) (home|back|to its dock) (from the {room}|)",
            "(dock|charge) the (vacuum|robot|hoover) (at {clock}|)",
            "the (vacuum|robot) can go home (from the {room}|now)",
            "get the (vacuum|robot) out of the {room}",
            "the (vacuum|robot) should charge (now|before {clock})",
            "robot back to base after the {room}",
        ),
    },
}
