"""Tables on countries and cities."""

from cifr_jax.data.pointwise.tables import Table, members, pairs
from cifr_jax.data.recipes.facts import CAPITALS

# Countries that lie on one continent alone.
_CONTINENTS = members({
    "Africa": "Nigeria, Kenya, Ghana, Algeria, Morocco, Ethiopia, Senegal, Angola, Zambia, "
              "Uganda, Tunisia, Mali",
    "Asia": "Japan, China, India, Vietnam, Thailand, Nepal, Mongolia, Cambodia, Pakistan, "
            "Bangladesh, Malaysia, Laos",
    "Europe": "France, Italy, Poland, Sweden, Norway, Greece, Portugal, Germany, Ireland, "
              "Belgium, Austria, Hungary",
    "South America": "Brazil, Argentina, Chile, Peru, Bolivia, Uruguay, Paraguay, Ecuador",
    "North America": "Canada, Mexico, Cuba, Guatemala, Honduras, Costa Rica, Jamaica, "
                     "Nicaragua",
    "Oceania": "New Zealand, Fiji, Samoa, Tonga, Vanuatu, Tuvalu",
})  # fmt: skip
_LANGUAGES = pairs(
    "Germany: German, France: French, Spain: Spanish, Portugal: Portuguese, "
    "Italy: Italian, "
    "Japan: Japanese, China: Chinese, Russia: Russian, Poland: Polish, Sweden: Swedish, "
    "Norway: Norwegian, Denmark: Danish, Finland: Finnish, Greece: Greek, Turkey: Turkish, "
    "Hungary: Hungarian, the Netherlands: Dutch, Brazil: Portuguese, Mexico: Spanish, "
    "Argentina: Spanish, Egypt: Arabic, Iran: Persian, Thailand: Thai, "
    "Vietnam: Vietnamese, "
    "Iceland: Icelandic, Romania: Romanian, Bulgaria: Bulgarian, Czechia: Czech, "
    "Austria: German, Cuba: Spanish, Peru: Spanish, Chile: Spanish, Saudi Arabia: Arabic, "
    "Jordan: Arabic, Australia: English, England: English, the United States: English, "
    "Albania: Albanian, Croatia: Croatian, Estonia: Estonian, Latvia: Latvian, "
    "Lithuania: Lithuanian, South Korea: Korean, Israel: Hebrew, Slovakia: Slovak"
)
_CURRENCIES = pairs(
    "Japan: yen, India: rupee, the United Kingdom: pound, the United States: dollar, "
    "Mexico: peso, Russia: rouble, China: yuan, Poland: zloty, Switzerland: franc, "
    "Germany: euro, Turkey: lira, Sweden: krona, Brazil: real, South Africa: rand, "
    "Thailand: baht, Israel: shekel, South Korea: won, Vietnam: dong, Hungary: forint, "
    "Kuwait: dinar"
)
_LANDMARKS = pairs(
    "the Eiffel Tower: Paris, the Colosseum: Rome, Big Ben: London, "
    "the Statue of Liberty: New York, the Golden Gate Bridge: San Francisco, "
    "the Brandenburg Gate: Berlin, the Sagrada Família: Barcelona, the Acropolis: Athens, "
    "the Kremlin: Moscow, the Taj Mahal: Agra, the Charles Bridge: Prague, "
    "the Louvre: Paris, the Prado: Madrid, the British Museum: London, "
    "the Forbidden City: Beijing, the CN Tower: Toronto, the Burj Khalifa: Dubai, "
    "the Atomium: Brussels, the Rijksmuseum: Amsterdam, the Trevi Fountain: Rome, "
    "the Empire State Building: New York, Tower Bridge: London, "
    "the statue of Christ the Redeemer: Rio de Janeiro, the Alhambra: Granada, "
    "the White House: Washington, the Hagia Sophia: Istanbul"
)

TABLES = (
    Table("capitals", "What is the capital of {}?", CAPITALS),
    Table("continents", "On which continent is {}?", _CONTINENTS),
    Table("languages", "What is the main language of {}?", _LANGUAGES),
    Table("money and sights", "What is the currency of {}?", _CURRENCIES),
    Table("money and sights", "In which city is {}?", _LANDMARKS),
)
